# 336x336 pixels (Table 5).
_base_ = './timesformer_stms_ssv2.py'
size = 336


def enlarge(steps):
    """The steps of a pipeline with all sizes times size / 224."""
    return [
        dict(step, transforms=enlarge(step.transforms)) if 'transforms' in step else
        dict(step, scale=tuple(side if side < 0 else side * size // 224
                               for side in step.scale)) if step.type == 'Resize' else
        dict(step, crop_size=size) if step.type == 'CenterCrop' else step
        for step in steps
    ]


train_dataloader = dict(dataset=dict(pipeline=enlarge(_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=enlarge(_base_.val_pipeline)))
test_dataloader = dict(dataset=dict(pipeline=enlarge(_base_.test_pipeline)))
model = dict(backbone=dict(img_size=size))
