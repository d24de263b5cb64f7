"""Gradients that are accumulated over clips are those of one batch, as configs/README.md says."""

import torch
from mmengine.optim import OptimWrapper
from model_fixtures import tiny_batch, tiny_model


def test_two_clips_one_after_the_other_are_a_batch_of_two(tmp_path):
    model = tiny_model(tmp_path / 'tokenizer')  # in evaluation mode: no dropout
    batch = model.data_preprocessor(tiny_batch(2))
    clips = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(2)]
    together = gradients(model, [batch], 1)
    apart = gradients(model, clips, 2)
    assert together.keys() == apart.keys()
    assert max(gradient.abs().max() for gradient in together.values()) > 0.1
    for name, gradient in together.items():
        torch.testing.assert_close(apart[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def gradients(model, batches, accumulative_counts):
    """Those with which the optimiser would step; a rate of 0 leaves the weights."""
    found = {}

    class Look(torch.optim.SGD):
        def step(self, closure=None):
            found.update(
                {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            )

    optimizer = OptimWrapper(Look(model.parameters(), lr=0.0), accumulative_counts)
    optimizer.initialize_count_status(model, 0, len(batches))
    for batch in batches:
        losses = model(**batch, mode='loss')
        optimizer.update_params(model.parse_losses(losses)[0])
    return found
