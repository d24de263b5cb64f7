"""The whole model, small: what must not depend on what."""

import pytest
import torch
from mmengine.registry import init_default_scope
from model_fixtures import tiny_batch, tiny_clip, tiny_model_cfg, tiny_sample

from referformer.registry import MODELS

CLOSE = {'rtol': 1e-4, 'atol': 1e-4}  # float32; coordinates reach 96 pixels
SWIN = {
    'type': 'Swin',
    'window': 3,
    'embed_dim': 8,
    'depths': (1, 1, 1, 1),
    'num_heads': (1, 1, 2, 2),
}


def run(model, batch, training=False):
    data = model.data_preprocessor(batch, training=training)
    with torch.no_grad():
        return model(**data, mode='tensor')


def test_shapes(tiny_model):
    predictions = run(tiny_model(num_classes=7), tiny_batch(2, num_frames=3))
    assert predictions.logits.shape == (2, 2, 3, 3, 7)
    assert predictions.boxes.shape == (2, 2, 3, 3, 4)
    assert predictions.masks.shape == (2, 2, 3, 3, 16, 24)


def test_other_modes_are_named(tiny_model):
    with pytest.raises(ValueError, match="mode must be 'loss', 'predict' or 'tensor', not 'train'"):
        tiny_model()(torch.zeros(1, 1, 3, 64, 96), [tiny_sample()], mode='train')


@pytest.mark.parametrize('backbone', [None, SWIN], ids=['clips', 'frames'])
def test_a_batch_gives_what_its_clips_give_alone(tiny_model, backbone):
    model = tiny_model(backbone=backbone)
    batch = tiny_batch(2)
    together = run(model, tiny_batch(2))
    for i in range(2):
        sample = batch['data_samples'][i]
        alone = run(model, {'inputs': [batch['inputs'][i]], 'data_samples': [sample]})
        for a, b in zip(alone, together):
            torch.testing.assert_close(a[:, 0], b[:, i], **CLOSE)


@pytest.mark.parametrize('divisor', [1, 128], ids=['unpadded', 'padded'])
def test_several_sentences_about_one_clip_equal_one_by_one(tiny_model, divisor):
    model = tiny_model()
    model.data_preprocessor.test_divisor = divisor
    texts = ['the red dog', 'a cat on the left', 'the big blue circle']
    inputs = model.data_preprocessor({'inputs': [tiny_clip()], 'data_samples': None})['inputs']
    together = model.predict(inputs, [tiny_sample(text=text) for text in texts])
    for text, found in zip(texts, together):
        (alone,) = model.predict(inputs, [tiny_sample(text=text)])
        for key in ('scores', 'boxes', 'reference_points'):
            torch.testing.assert_close(
                found.pred_instances[key], alone.pred_instances[key], rtol=1e-4, atol=1e-3
            )
        differ = (found.pred_instances.masks != alone.pred_instances.masks).float().mean()
        assert differ < 1e-3
    scores = [sample.pred_instances.scores.item() for sample in together]
    assert len(set(scores)) == 3


def test_sentences_that_do_not_fit_together_share_what_was_seen(tiny_model):
    model = tiny_model()
    texts = ['the red dog', 'a cat on the left', 'the big blue circle']
    samples = [tiny_sample(text=text) for text in texts]
    whole = model.test_step({'inputs': [tiny_clip()], 'data_samples': samples})
    seen, asked = [], []
    model.backbone.register_forward_hook(lambda *_: seen.append(1))
    model.transformer.register_forward_pre_hook(lambda _, args: asked.append(len(args[3])))
    # A byte more than what two need.
    model.test_cfg['max_memory'] = model.predict_memory(2, (64, 96), (64, 96), 2) + 1
    samples = [tiny_sample(text=text) for text in texts]
    parts = model.test_step({'inputs': [tiny_clip()], 'data_samples': samples})
    assert len(seen) == 1
    assert asked == [2 * 2, 2]  # two sentences in two frames, then one
    for a, b in zip(whole, parts):
        torch.testing.assert_close(
            a.pred_instances.boxes, b.pred_instances.boxes, rtol=1e-4, atol=1e-3
        )


def test_sentences_for_other_clips_are_refused(tiny_model):
    model = tiny_model()
    inputs = model.data_preprocessor(tiny_batch(2))['inputs']
    with pytest.raises(ValueError, match='3 sentences for 2 clips'):
        model.predict(inputs, [tiny_sample(video_id=f'v{i}') for i in range(3)])


def test_windows_are_clips_of_their_own(tiny_model):
    model = tiny_model(test_cfg={'window': 3, 'keep_logits': True})
    clip = tiny_clip(num_frames=7)
    texts = ['the red dog', 'a cat on the left']
    samples = [tiny_sample(num_frames=7, text=text) for text in texts]
    whole = model.test_step({'inputs': [clip], 'data_samples': samples})
    lengths, parts = (3, 3, 1), []
    for part in clip.split(lengths):
        samples = [tiny_sample(num_frames=len(part), text=text) for text in texts]
        parts.append(model.test_step({'inputs': [part], 'data_samples': samples}))
    for i, sample in enumerate(whole):
        found, expected = sample.pred_instances, [part[i].pred_instances for part in parts]
        for key in ('boxes', 'reference_points', 'masks', 'logits'):
            assert torch.equal(found[key], torch.cat([e[key] for e in expected], 1)), key
        assert found.logits.shape == (1, 7, 16, 24)
        score = sum(n * e.scores for n, e in zip(lengths, expected)) / 7
        torch.testing.assert_close(found.scores, score)


def test_windows_that_make_no_sense_are_refused(tiny_model):
    with pytest.raises(ValueError, match="must be 0, or a number of frames with keep='best'"):
        tiny_model(test_cfg={'window': 3, 'keep': 'all'})
    model = tiny_model(test_cfg={'window': 2})
    sample = tiny_sample(num_frames=3, key_frames=[1])
    with pytest.raises(ValueError, match='clips of which all frames are annotated'):
        model.test_step({'inputs': [tiny_clip(num_frames=3)], 'data_samples': [sample]})


def test_the_best_query_is_the_best_of_all(tiny_model):
    model = tiny_model(num_queries=5)
    (best,) = model.test_step(tiny_batch())
    model.test_cfg['keep'] = 'all'
    (every,) = model.test_step(tiny_batch())
    best, every = best.pred_instances, every.pred_instances
    assert len(best) == 1 and len(every) == 5
    chosen = every[every.scores.argmax().item()]
    torch.testing.assert_close(best.scores, chosen.scores)
    torch.testing.assert_close(best.boxes, chosen.boxes)
    torch.testing.assert_close(best.reference_points, chosen.reference_points)
    assert (best.masks != chosen.masks).float().mean() < 1e-3


def test_predictions_are_in_pixels_of_the_original_frame(tiny_model):
    batch = tiny_batch()
    sample = batch['data_samples'][0]
    sample.set_metainfo({'ori_shape': (128, 288)})
    (found,) = tiny_model().test_step(batch)
    found = found.pred_instances
    assert found.masks.shape == (1, 2, 128, 288) and found.masks.dtype == torch.bool
    assert found.boxes.shape == (1, 2, 4) and found.reference_points.shape == (1, 2, 2)
    (small,) = tiny_model().test_step(tiny_batch())
    scale = torch.tensor([3.0, 2.0])
    torch.testing.assert_close(found.boxes, small.pred_instances.boxes * scale.repeat(2))
    torch.testing.assert_close(
        found.reference_points, small.pred_instances.reference_points * scale
    )


def test_only_annotated_frames_are_searched_but_all_are_seen(tiny_model):
    def annotated(clip, key_frame):
        sample = tiny_sample(num_frames=4)
        sample.set_metainfo({'key_frames': [key_frame]})
        return run(model, {'inputs': [clip], 'data_samples': [sample]})

    model = tiny_model()
    clip = tiny_clip(num_frames=4)
    assert annotated(clip, 2).masks.shape[2] == 1
    changed = clip.clone()
    changed[1] = 255 - changed[1]
    assert not torch.allclose(annotated(clip, 2).logits, annotated(changed, 2).logits)
    model = tiny_model(backbone=SWIN)  # sees every frame alone
    first, second = annotated(clip, 2), annotated(changed, 2)
    assert torch.equal(first.masks, second.masks)
    alone = run(model, {'inputs': [clip[2:3]], 'data_samples': [tiny_sample(num_frames=1)]})
    torch.testing.assert_close(first.masks, alone.masks, **CLOSE)


def test_every_trained_parameter_gets_a_gradient(tiny_model):
    model = tiny_model().train()
    data = model.data_preprocessor(tiny_batch(2), training=True)
    losses = model(**data, mode='loss')
    assert set(losses) == {
        f'{layer}loss_{name}'
        for layer in ('', 'd0.')
        for name in ('cls', 'bbox', 'giou', 'mask', 'dice')
    }
    sum(losses.values()).backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith('text_encoder.encoder.') for name in frozen)


def test_training_lowers_the_loss(tiny_model):
    model = tiny_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        data = model.data_preprocessor(tiny_batch(), training=True)
        loss = sum(model(**data, mode='loss').values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


def test_recomputing_changes_neither_losses_nor_gradients(tiny_model):
    results = []
    for with_cp in (False, True):
        model = tiny_model(transformer={'with_cp': with_cp}, pixel_decoder={'with_cp': with_cp})
        model.backbone.with_cp = with_cp
        data = model.data_preprocessor(tiny_batch(), training=True)
        torch.manual_seed(3)
        losses = model.train()(**data, mode='loss')
        sum(losses.values()).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((*losses.values(), *grads))
    assert all(torch.equal(a, b) for a, b in zip(*results))  # dropout and paths included


def test_inference_mode_leaves_nothing_behind_that_training_cannot_use(tiny_model):
    model = tiny_model()
    size = (64, 128)  # of no other test
    with torch.inference_mode():
        model.test_step(tiny_batch(size=size))
    data = model.data_preprocessor(tiny_batch(size=size), training=True)
    sum(model.train()(**data, mode='loss').values()).backward()


def test_early_fusion_can_be_left_out(tiny_model):
    model = tiny_model(fusion=None)
    assert model.fusion is None
    (sample,) = model.test_step(tiny_batch())
    assert sample.pred_instances.masks.shape == (1, 2, 64, 96)


def test_frames_of_any_size(tiny_model):
    (sample,) = tiny_model().test_step(tiny_batch(size=(53, 75)))
    assert sample.pred_instances.masks.shape == (1, 2, 53, 75)


def test_autocast_keeps_boxes_and_losses_in_full_precision(tiny_model):
    model = tiny_model().train()
    data = model.data_preprocessor(tiny_batch(), training=True)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(**data, mode='loss')
        predictions = model(**data, mode='tensor')
    assert all(v.dtype == torch.float32 and torch.isfinite(v) for v in losses.values())
    assert predictions.boxes.dtype == torch.float32
    sum(losses.values()).backward()


def test_building_does_not_write_into_the_config(tmp_path):
    import copy

    init_default_scope('referformer')
    cfg = tiny_model_cfg(tmp_path)
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)
    assert cfg == before
