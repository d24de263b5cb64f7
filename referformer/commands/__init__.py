"""The command line: a module for each verb, with ``main(argv)``; ``tools/*.py`` call the same."""

VERBS = {  # the module of get-weights is get_weights
    'infer': 'segment what sentences name in a video',
    'serve': 'a web page and an HTTP interface to try models on videos',
    'list': 'list the models that can be used by name',
    'get-weights': 'fetch published weights, to have them when offline',
    'make-dataset': 'make a data set from sentences, videos and masks of your own',
    'verify': 'read all data of a config; say what is missing or corrupt',
    'browse': 'draw what training sees',
    'train': 'train a model',
    'test': 'test a checkpoint',
    'score': 'score files of masks without a model',
    'benchmark': 'measure time and memory here',
    'convert': 'convert weights from and to the official names',
    'export': 'write a model as ONNX graphs',
    'publish': 'gather a trained model in a folder that needs nothing else',
}
