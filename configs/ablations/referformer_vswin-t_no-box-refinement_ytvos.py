_base_ = '../referformer_vswin-t_scratch_ytvos.py'
model = dict(transformer=dict(with_box_refine=False))
