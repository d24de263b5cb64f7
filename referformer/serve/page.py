"""The page: a video and sentences in, frames as they are found, files to take away."""

import html
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from mmengine.registry import init_default_scope

from ..datasets.verification import draw_item
from ..engine.launch import read_config
from ..files import project_file
from ..inference import DEFAULT_WINDOW, MODES, check_texts
from ..models.precision import DTYPES
from ..registry import DATASETS
from ..zoo import list_models
from .jobs import Job, Jobs, Limits, Stopped

_EXAMPLE = ('the black star\nthe white star moving left', 'referformer_vswin-micro_synthetic')
_SAMPLES = 4  # of a dataset, at a time
_KEEP = 3600  # seconds that files of visitors stay
_FONTS = {'font': ['system-ui', 'sans-serif'], 'font_mono': ['monospace']}  # none from elsewhere
LOOK = gr.themes.Default(**_FONTS)


def make_page(
    jobs: Jobs, model: str, data: str | None = None, report: Path | None = None
) -> gr.Blocks:
    """The page, ready for ``launch``.

    Args:
        jobs: Run what visitors ask for.
        model: The one that is chosen at first.
        data: A config whose validation samples are shown in a second tab.
        report: What ``analyze_results.py`` wrote, for the second tab.
    """
    actions = _Actions(jobs)
    with gr.Blocks(title='ReferFormer', analytics_enabled=False, delete_cache=(60, _KEEP)) as page:
        gr.Markdown('# ReferFormer\nA video and sentences in; masks of what they name out.')
        with gr.Tab('Segment'):
            _segment_tab(actions, jobs.limits, model)
        if data or report:
            with gr.Tab('Data and errors'):
                _data_tab(data, report)
        page.unload(actions.leave)
    return page.queue(max_size=jobs.limits.queue, default_concurrency_limit=None)


def _segment_tab(actions: '_Actions', limits: Limits, model: str) -> None:
    with gr.Row():
        with gr.Column():
            video = gr.Video(
                label=f'Video (up to {limits.length:g} s, {limits.megabytes} MB)',
                sources=['upload', 'webcam'],
                elem_id='video',
            )
            sentences = gr.Textbox(
                label='Sentences, one a line', lines=3, max_length=2000, elem_id='sentences'
            )
            names = list_models()
            chosen = gr.Dropdown(
                names if model in names else [model, *names],
                value=model,
                label='Model (fetched when first used)',
            )
            with gr.Accordion('Options', open=False):
                dtype = gr.Dropdown(list(DTYPES), value='fp32', label='Precision')
                mode = gr.Dropdown(list(MODES), value='window', label='How the video is seen')
                window = gr.Slider(
                    2, 64, DEFAULT_WINDOW, step=1, label='Frames seen together (window, stream)'
                )
            with gr.Row():
                go = gr.Button('Segment', variant='primary', elem_id='go')
                stop = gr.Button('Stop', elem_id='stop')
            example = project_file('docs/example.mp4')
            if example.is_file():
                gr.Examples([[str(example), *_EXAMPLE]], [video, sentences, chosen])
        with gr.Column():
            status = gr.Markdown(elem_id='status')
            pictures = gr.Gallery(
                label='Frames', columns=4, format='png', object_fit='contain', elem_id='frames'
            )
            overlay = gr.Video(label='Overlay', interactive=False, elem_id='overlay')
            plot = gr.LinePlot(
                x='seconds',
                y='score',
                color='sentence',
                y_lim=[0, 1],
                title='How sure the model is that the object is there',
            )
            files = gr.File(
                label='Masks, COCO, CVAT, mattes, overlay', file_count='multiple', elem_id='files'
            )
    run = go.click(
        actions.segment,
        [video, sentences, chosen, dtype, mode, window],
        [status, pictures, overlay, plot, files],
        concurrency_limit=limits.workers,
        api_name='segment',
        show_progress='hidden',
    )
    stop.click(actions.leave, cancels=[run], queue=False, api_visibility='private')


class _Actions:
    """What buttons do; methods, since Gradio gives no request to partials."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def leave(self, request: gr.Request) -> None:
        """End what this visitor has asked for."""
        self.jobs.leave(request.session_hash or '')

    def segment(
        self,
        video: str | None,
        sentences: str,
        model: str,
        dtype: str,
        mode: str,
        window: int,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """What the page shows, again and again until the result is there."""
        session = request.session_hash or ''
        if not video:
            raise gr.Error('there is no video: upload one, record one, or take the example.')
        path = Path(video)
        seen = -1
        try:
            texts = check_texts([line for line in sentences.splitlines() if line.strip()])
            options = {'mode': mode, 'window': None if mode == 'whole' else int(window)}
            for job in self.jobs.segment(session, path, texts, model, dtype, **options):
                new = job.frames != seen
                seen = job.frames
                pictures = job.pictures() if new else gr.skip()
                if job.result is None:
                    yield _progress(job), pictures, gr.skip(), gr.skip(), gr.skip()
                else:
                    yield _finished(job)
        except Stopped:
            return
        except (ValueError, OSError, ModuleNotFoundError, MemoryError) as error:
            # Visitors know the file by its name, and need no folder of the server.
            message = str(error).replace(str(path), path.name)
            raise gr.Error(html.escape(message or type(error).__name__), duration=None) from error


def _progress(job: Job) -> str:
    if job.began is None:
        return 'waiting for its turn'
    return f'{job.frames} of {job.length or "?"} frames' if job.frames else 'reading'


def _finished(job: Job) -> tuple:
    """All that was found; Gradio copies the files before the job's folder is removed."""
    result, folder = job.result, job.folder
    files = result.files
    overlay = files['video']
    if overlay.suffix != '.mp4':  # browsers play no AVI, and GIFs not as videos
        overlay = result.save(folder / 'overlay.mp4')
    masks = shutil.make_archive(str(folder / 'masks'), 'zip', folder / 'results', 'masks')
    mattes = sorted(files['matte'].iterdir())
    everything = [Path(masks), files['COCO'], files['cvat'], files['video'], *mattes]
    table = f'```text\n{result}\n```'
    frame = result.to_dataframe()
    paths = list(map(str, everything))
    return table, job.pictures(), str(overlay), frame[['seconds', 'score', 'sentence']], paths


def _data_tab(data: str | None, report: Path | None) -> None:
    if data:
        init_default_scope('referformer')  # MMEngine's ConcatDataset builds datasets of ours
        cfg = read_config(data)
        if cfg.get('val_dataloader') is None:
            raise ValueError(f'{data} has no val_dataloader')
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
        gr.Markdown(f'{len(dataset)} samples of {Path(data).stem}')
        samples = gr.Gallery(label='Samples', columns=1, elem_id='samples')
        more = gr.Button('Show some', elem_id='more')
        more.click(partial(_samples, dataset), outputs=samples, api_visibility='private')
    if report:
        page = html.escape(report.read_text(encoding='utf-8'), quote=True)
        gr.HTML(f'<iframe style="width:100%;height:80vh;border:0" srcdoc="{page}"></iframe>')


def _samples(dataset: Sequence[Any]) -> list[np.ndarray]:
    chosen = np.random.default_rng().choice(len(dataset), min(_SAMPLES, len(dataset)), False)
    return [draw_item(dataset[int(index)]) for index in chosen]
