"""Encoder, decoder with language queries, box refinement."""

import pytest
import torch
from mmengine.registry import init_default_scope

from referformer.models.deformable_transformer import (
    DeformableTransformer,
    FirstLook,
    inverse_sigmoid,
)
from referformer.models.position_encoding import sine_encoding_2d

BT, Q, C, D = 3, 4, 16, 3
SHAPES = [(8, 12), (4, 6), (2, 3), (1, 2)]
CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('referformer')


def make(**options) -> DeformableTransformer:
    torch.manual_seed(0)
    model = DeformableTransformer(
        **{
            'embed_dim': C,
            'num_heads': 2,
            'num_encoder_layers': 2,
            'num_decoder_layers': D,
            'feedforward_dim': 32,
            'dropout': 0.0,
            **options,
        }
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def inputs(masks=None):
    generator = torch.Generator().manual_seed(1)
    levels = [torch.randn(BT, C, h, w, generator=generator) for h, w in SHAPES]
    positions = [sine_encoding_2d(s, C, CPU, masks and masks[i]) for i, s in enumerate(SHAPES)]
    sentences = torch.randn(BT, C, generator=generator)
    return levels, positions, masks, sentences, torch.randn(Q, C, generator=generator)


def padded_from(row: int) -> list[torch.Tensor]:
    """Masks of the second frame whose rows from ``row`` of 8 on are padding."""
    masks = [torch.zeros(BT, h, w, dtype=torch.bool) for h, w in SHAPES]
    for mask, (h, _) in zip(masks, SHAPES):
        mask[1, max(1, row * h // 8) :] = True
    return masks


def test_shapes_and_ranges():
    memory, output = make()(*inputs())
    assert [tuple(x.shape) for x in memory] == [(BT, C, h, w) for h, w in SHAPES]
    assert output.hs.shape == (D, BT, Q, C) and output.boxes.shape == (D, BT, Q, 4)
    assert output.references.shape == (D + 1, BT, Q, 2)
    assert output.boxes.min() >= 0 and output.boxes.max() <= 1


def test_with_refinement_each_box_is_the_next_reference():
    _, output = make()(*inputs())
    assert torch.equal(output.references[1:], output.boxes[..., :2])
    assert not torch.allclose(output.references[0], output.references[1])


def test_without_refinement_references_stay_and_one_head_serves_all():
    model = make(with_box_refine=False)
    _, output = model(*inputs())
    assert len(model.box_heads) == 1
    assert all(torch.equal(r, output.references[0]) for r in output.references[1:])
    expected = (model.box_heads[0](output.hs) + inverse_sigmoid_box(output.references[0])).sigmoid()
    torch.testing.assert_close(output.boxes, expected)


def inverse_sigmoid_box(points):
    return torch.cat((inverse_sigmoid(points), torch.zeros_like(points)), -1)


def test_the_first_reference_depends_on_the_query_alone():
    _, output = make()(*inputs())
    assert torch.equal(output.references[0], output.references[0, :1].expand(BT, -1, -1))


def test_gradients_stop_between_layers_but_not_at_the_first_reference():
    model = make()
    _, output = model(*inputs())
    heads = [p for head in model.box_heads for p in head.parameters()]
    through = torch.autograd.grad(
        output.references[1:].sum(), heads, retain_graph=True, allow_unused=True
    )
    assert all(g is None or not g.any() for g in through)
    first = torch.autograd.grad(output.boxes[0].sum(), model.reference_points.weight)[0]
    assert first.any()


def test_frames_do_not_see_each_other():
    model = make()
    args = inputs()
    changed = [level.clone() for level in args[0]]
    for level in changed:
        level[1] += 1
    _, before = model(*args)
    _, after = model(changed, *args[1:])
    torch.testing.assert_close(before.hs[:, [0, 2]], after.hs[:, [0, 2]])
    assert not torch.allclose(before.hs[:, 1], after.hs[:, 1])


def test_padding_is_not_read():
    model = make()
    masks = padded_from(6)
    args = inputs(masks)
    changed = [level.clone() for level in args[0]]
    for level, mask in zip(changed, masks):
        level[mask[:, None].expand_as(level)] = 5
    _, before = model(*args)
    _, after = model(changed, *args[1:])
    torch.testing.assert_close(before.hs, after.hs)


def test_masks_without_padding_change_nothing():
    model = make()
    nothing = [torch.zeros(BT, h, w, dtype=torch.bool) for h, w in SHAPES]
    _, masked = model(*inputs(nothing))
    _, plain = model(*inputs())
    torch.testing.assert_close(masked.hs, plain.hs)


def test_recomputing_changes_neither_outputs_nor_gradients():
    results = []
    for with_cp in (False, True):
        model = make(with_cp=with_cp).train()
        memory, output = model(*inputs())
        (memory[0].square().sum() + output.boxes.sum()).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((output.hs, output.boxes, *grads))
    assert len(results[0]) == len(results[1])
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_new_models_start_with_boxes_around_the_reference_points():
    model = DeformableTransformer(C, 2, num_decoder_layers=D)
    model.init_weights()
    _, output = model.eval()(*inputs())
    torch.testing.assert_close(output.boxes[0, ..., :2], output.references[0])
    torch.testing.assert_close(output.boxes[0, ..., 2:], torch.full((BT, Q, 2), -2.0).sigmoid())
    torch.testing.assert_close(output.boxes[-1], output.boxes[0])


def test_inverse_sigmoid_is_finite_at_the_ends():
    x = torch.tensor([-1.0, 0, 0.25, 1, 2])
    assert torch.isfinite(inverse_sigmoid(x)).all()
    assert inverse_sigmoid(x)[2].sigmoid().item() == pytest.approx(0.25)


def test_an_even_look_at_a_rectangle_is_its_box():
    look = FirstLook(C)
    places = torch.stack(
        torch.meshgrid((torch.arange(60) + 0.5) / 60, (torch.arange(40) + 0.5) / 40, indexing='xy'),
        -1,
    ).flatten(0, 1)[None]
    inside = ((places - torch.tensor([0.4, 0.6])).abs() < torch.tensor([0.15, 0.1])).all(-1)
    x, memory = torch.randn(1, 2, C), torch.randn(1, 2400, C)
    with torch.no_grad():
        look.query.weight.zero_()  # no token is looked at more than another
        look.query.bias.zero_()
        read, box = look(x, memory, places, ~inside)
    torch.testing.assert_close(
        box, torch.tensor([0.4, 0.6, 0.3, 0.2]).expand(1, 2, 4), atol=5e-3, rtol=0
    )
    mean = look.value(memory[inside[:, :, None].expand_as(memory)].view(-1, C)).mean(0)
    torch.testing.assert_close(read, look.norm(x + mean), atol=1e-5, rtol=1e-4)


def test_after_a_first_look_boxes_start_where_it_lies_and_padding_changes_nothing():
    model = make(look_first=True)
    levels, positions, _, queries, query_pos = inputs()
    _, plain = model(levels, positions, None, queries, query_pos)
    assert plain.references.shape == (D + 1, BT, Q, 2) and plain.boxes.shape == (D, BT, Q, 4)
    # Unlike a learned point the place depends on the frame.
    assert plain.references[0].std(0).max() > 1e-3
    padded = [torch.nn.functional.pad(x, (0, 4 >> i, 0, 8 >> i)) for i, x in enumerate(levels[:3])]
    padded.append(torch.nn.functional.pad(levels[3], (0, 1, 0, 1)))
    masks = [torch.ones(BT, *x.shape[-2:], dtype=torch.bool) for x in padded]
    for mask, (h, w) in zip(masks, SHAPES):
        mask[:, :h, :w] = False
    wide = [
        torch.nn.functional.pad(p, (0, x.shape[-1] - p.shape[-1], 0, x.shape[-2] - p.shape[-2]))
        for p, x in zip(positions, padded)
    ]
    _, output = model(padded, wide, masks, queries, query_pos)
    torch.testing.assert_close(output.references[0], plain.references[0], atol=1e-4, rtol=1e-3)
