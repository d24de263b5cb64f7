# MeViS with the sentences of version 2, some of which are about nothing.
_base_ = './mevis.py'

train_dataloader = dict(dataset=dict(data_root='data/mevis_v2', version=2))
test_dataloader = dict(dataset=dict(data_root='data/mevis_v2', version=2))
test_evaluator = dict(protocol='mevis-v2')
