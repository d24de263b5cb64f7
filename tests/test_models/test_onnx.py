"""Exported graphs run by onnxruntime give the model's numbers, with standard operators alone."""

import numpy as np
import pytest
import torch
from model_fixtures import tiny_clip, tiny_sample

from referformer.commands.export import main
from referformer.models.graphs import ImageGraph, SentenceGraph

SIZE = (64, 96)
ort = pytest.importorskip('onnxruntime', reason='requirements/onnx.txt')
onnx = pytest.importorskip('onnx', reason='requirements/onnx.txt')


def test_graphs_find_what_the_model_finds(tiny_model, tmp_path):
    """The same score, boxes and masks as ``predict``, from frames and padded tokens."""
    from referformer.models.onnx import export, run

    model = tiny_model(transformer={'num_decoder_layers': 1})
    report = export(model, tmp_path, 3, SIZE, 8, int8=True)
    assert max(report['differences'].values()) < 1e-3
    for name in ('image', 'sentence'):
        graph = onnx.load(tmp_path / f'{name}.onnx').graph
        assert {node.domain for node in graph.node} <= {'', 'ai.onnx'}
        kinds = {node.op_type for node in graph.node}
        assert ('GridSample' in kinds) == (name == 'sentence')

    sample = tiny_sample(SIZE, 3)
    sample.gt_instances = sample.gt_instances.new()
    tokens = model.text_encoder.tokenizer(
        [sample.text], padding='max_length', max_length=8, return_tensors='np'
    )
    clip = tiny_clip(SIZE, 3)
    model.test_cfg['keep_logits'] = True
    (answer,) = model.test_step({'inputs': [clip], 'data_samples': [sample]})
    expected = answer.pred_instances
    maps = run(tmp_path / 'image.onnx', {'frames': clip.float()})
    ids = {name: tokens[name] for name in ('input_ids', 'attention_mask')}
    assert ids['attention_mask'].sum() < 8
    found = run(tmp_path / 'sentence.onnx', {**ids, **maps})
    np.testing.assert_allclose(found['score'], expected.scores, atol=1e-4)
    np.testing.assert_allclose(found['frame_scores'], expected.frame_scores[0], atol=1e-4)
    boxes = found['boxes'] * np.array([*SIZE[::-1], *SIZE[::-1]])
    np.testing.assert_allclose(boxes, expected.boxes[0], atol=1e-2)
    np.testing.assert_allclose(found['masks'], expected.logits[0], atol=1e-3)
    assert 0.3 < report['int8']['masks: IoU with fp32'] <= 1


def test_both_graphs_are_whole_for_torch_export(tiny_model):
    """No branch depends on a value, and no cached tensor of the tracing stays behind."""
    model = tiny_model(transformer={'num_decoder_layers': 1})
    images, sentences = ImageGraph(model), SentenceGraph(model, SIZE)
    clip = tiny_clip(SIZE).float()
    with torch.no_grad():
        graph = torch.export.export(images, (clip,))
        maps = images(clip)
        for a, b in zip(graph.module()(clip), maps):
            torch.testing.assert_close(a, b)
        ids = torch.tensor([[0, 5, 7, 9, 2, 1]])
        inputs = (ids, (ids != 1).long(), *maps)
        graph = torch.export.export(sentences, inputs)
        for a, b in zip(graph.module()(*inputs), sentences(*inputs)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_exporting_refuses_what_it_cannot_do(tmp_path, capsys):
    model = 'referformer_vswin-micro_synthetic'
    (tmp_path / 'image.onnx').touch()
    for arguments, message in (
        (['--out', tmp_path], 'holds a model'),
        (['--out', tmp_path, '--frames', 0], '--frames'),
        (['--out', tmp_path / 'new', '--shape', 8, 8], '--shape'),
    ):
        with pytest.raises(SystemExit):
            main([model, *map(str, arguments)])
        assert message in capsys.readouterr().err
