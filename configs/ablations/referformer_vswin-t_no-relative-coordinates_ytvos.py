_base_ = '../referformer_vswin-t_scratch_ytvos.py'
model = dict(mask_head=dict(rel_coord=False))
