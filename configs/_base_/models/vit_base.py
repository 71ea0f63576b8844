# ViT-B of STTM: patches of single frames, spatial and temporal position embeddings, all
# tokens attend to all. 86.11 M parameters, 179.7 GFLOPs at 8x224x224.
_base_ = './timesformer_base.py'
model = dict(backbone=dict(attention_type='joint_space_time'))
