# EVAD on VideoMAE's ViT-L: prunes within blocks 6, 12 and 18 of 24; a decoder of 12
# blocks, 512 wide. 439.54 M parameters, 409.4 GFLOPs at 16x224x224 (keep 0.7).
_base_ = './evad_vit_base.py'
model = dict(
    backbone=dict(
        embed_dims=1024,
        depth=24,
        num_heads=16,
        drop_path_rate=0.2,
        out_indices=(5, 11, 17, 23),
        reducers=[
            dict(type='KeyframePruning', within=block, keep=0.7)
            for block in (6, 12, 18)
        ]),
    neck=[
        dict(type='KeyframePyramid', scales=(4, 2, 1, 0.5)),
        dict(
            type='mmdet.FPN', in_channels=[1024] * 4, out_channels=256, num_outs=4)
    ],
    action_head=dict(
        in_channels=1024, channels=512, depth=12, num_heads=8, loss_weight=6.0))
