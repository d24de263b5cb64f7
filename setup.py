"""Installs ReferFormer; builds its C++ operators where PyTorch and a C++ compiler are at hand.

The operators are optional: without them the PyTorch forms serve, which are slower. Building them
needs the PyTorch they will run with, hence ``pip install --no-build-isolation .`` (or ``-e .``).
``REFERFORMER_BUILD_EXT=0`` skips them, ``=1`` makes a failure fatal; ``REFERFORMER_NATIVE=1``
compiles for this machine's CPU only.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
WANTED = os.environ.get('REFERFORMER_BUILD_EXT', '')
REMEDY = (
    'The slower PyTorch form of deformable attention will be used. For the fast one install '
    'PyTorch and a C++ compiler (Debian, Ubuntu: apt install g++), then run '
    '`pip install --no-build-isolation .` again (REFERFORMER_BUILD_EXT=1 shows what fails).'
)


def version() -> str:
    """The version in referformer/version.py."""
    text = (ROOT / 'referformer' / 'version.py').read_text()
    return re.search(r"__version__ = '([^']+)'", text)[1]


def requirements(name: str) -> list[str]:
    """The requirements in requirements/<name>.txt, one a line."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    lines = (line.split('#', 1)[0].strip() for line in lines)
    return [line for line in lines if line and not line.startswith('-')]


def warn(reason: str) -> None:
    """Say on stderr why there are no C++ operators, and what to do."""
    print(f'referformer: no C++ operators: {reason}\nreferformer: {REMEDY}', file=sys.stderr)


class BuildWithConfigs(build_py):
    """build_py that adds referformer/.mim: configs, tools and model-index.yml, as OpenMMLab's
    packages carry them. They go straight into the build, never into the source tree."""

    def run(self) -> None:
        """Build the modules, then copy."""
        super().run()
        if self.editable_mode:  # configs and tools are then read where they are
            return
        target = Path(self.build_lib, 'referformer', '.mim')
        shutil.rmtree(target, ignore_errors=True)  # of a build before
        target.mkdir(parents=True)
        for name in ('configs', 'tools'):
            shutil.copytree(
                ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__')
            )
        for path in ROOT.glob('model-index.yml'):
            shutil.copy2(path, target)


COMMANDS = {'build_py': BuildWithConfigs}


def extension() -> dict:
    """The arguments of ``setup`` that build referformer._C, none where that is impossible."""
    if WANTED == '0':
        return {'cmdclass': COMMANDS}
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        if WANTED == '1':
            raise SystemExit(
                f'referformer: PyTorch cannot be imported here: {error}. Use --no-build-isolation.'
            ) from error
        warn(f'PyTorch cannot be imported at build time ({error})')
        return {'cmdclass': COMMANDS}

    class BuildOptional(BuildExtension):
        """BuildExtension that leaves the package without operators when the compiler fails."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                if WANTED == '1':
                    raise
                self.extensions = []
                warn(f'the compiler failed ({error})')

    openmp = [] if sys.platform == 'darwin' else ['-fopenmp']
    native = ['-march=native'] if os.environ.get('REFERFORMER_NATIVE') == '1' else []
    # Instruction sets beyond the platform's baseline are chosen at run time (csrc/*_avx*.cpp).
    # CUDA sources (csrc/*.cu) will join here, with CUDAExtension.
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'csrc').iterdir())
    module = CppExtension(
        'referformer._C',
        [file for file in files if file.endswith('.cpp')],
        depends=files,
        extra_compile_args=['-O3', '-g0', '-Wno-psabi', *openmp, *native],
        extra_link_args=openmp,
        optional=WANTED != '1',
    )
    return {'ext_modules': [module], 'cmdclass': {**COMMANDS, 'build_ext': BuildOptional}}


readme = ROOT / 'README.md'
setup(
    name='referformer',
    version=version(),
    description='Referring video object segmentation with language as queries, on MMEngine',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    author='ReferFormer on MMEngine developers',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='referring video object segmentation, vision and language, MMEngine, OpenMMLab',
    project_urls={
        'Paper': 'https://arxiv.org/abs/2201.00487',
        'Code of the authors': 'https://github.com/wjn922/ReferFormer',
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Console',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: C++',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Multimedia :: Video',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['referformer', 'referformer.*']),
    package_data={'referformer.zoo': ['*/*', '*/tokenizer/*']},
    entry_points={'console_scripts': ['referformer = referformer.__main__:main']},
    install_requires=requirements('runtime'),
    extras_require={
        'tests': requirements('tests'),
        'mmdet': requirements('mmdet'),
        'onnx': requirements('onnx'),
        'frames': ['pandas>=2', 'supervision>=0.25'],
        'serve': requirements('serve'),
        'loggers': ['tensorboard>=2.14', 'wandb>=0.16'],
    },
    **extension(),
)
