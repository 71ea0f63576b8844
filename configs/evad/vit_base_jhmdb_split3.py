# EVAD, ViT-B, JHMDB, split 3: results are the mean of the three.
_base_ = './vit_base_jhmdb.py'
split = 3
train_dataloader = dict(dataset=dict(split=split))
val_dataloader = dict(dataset=dict(split=split))
test_dataloader = val_dataloader
val_evaluator = _base_.val_evaluator
for metric in val_evaluator:
    metric.split = split
test_evaluator = val_evaluator
del metric
