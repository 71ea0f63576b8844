# mmaction2's own MViT set to the architecture of mvit_dense_k400.py: what the speed of
# ours is measured against (tools/benchmark.py). It pools queries in every block.
_base_ = './mvit_dense_k400.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='MViT',
        arch='small',
        dim_mul_in_attention=False,
        rel_pos_embed=False,
        rel_pos_zero_init=True,  # without it init_weights fails where there are none
        residual_pooling=False,
        use_abs_pos_embed=True,
        drop_path_rate=0.2))
