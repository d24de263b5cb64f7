# Clips. Start from the first stage, as tools/quickstart.sh does:
# --cfg-options load_from=work_dirs/referformer_vswin-micro_synthetic-pretrain/iter_750.pth
_base_ = [
    './_base_/iter_runtime.py',
    './_base_/models/referformer_micro.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/micro.py',
]

# Mask losses are divided by the number of frames, box losses are not: 2 frames, 2 times the weight.
model = dict(criterion=dict(loss_mask=dict(weight=4.0), loss_dice=dict(weight=10.0)))
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
# For the curve the first third is enough; tools/test.py takes all sentences.
val_dataloader = dict(dataset=dict(indices=180))
