_base_ = '../referformer_vswin-t_scratch_ytvos.py'
model = dict(num_queries=3)
