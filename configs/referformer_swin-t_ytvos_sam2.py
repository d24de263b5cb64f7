# With the weights of referformer_swin-t_ytvos.py.
_base_ = ['./referformer_swin-t_ytvos.py', './_base_/sam2.py']

model = dict(test_cfg=dict(refine={{_base_.sam2}}))
test_evaluator = dict(out_dir='work_dirs/submission_ref_youtube_vos_sam2')
