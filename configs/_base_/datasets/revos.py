# Read as MeViS, but for the names of the files and the kinds of sentences.
_base_ = './mevis.py'

train_dataloader = dict(dataset=dict(type='ReVOS', data_root='data/revos'))
test_dataloader = dict(dataset=dict(type='ReVOS', data_root='data/revos', split='valid'))
test_evaluator = dict(protocol='revos')
