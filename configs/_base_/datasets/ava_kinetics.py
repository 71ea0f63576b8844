# AVA-Kinetics as mmaction2's scripts lay it out (docs/evad_data.md): AVA's csv and
# Kinetics' in one, all frames below rawframes. Clips stop at the last frame on disk,
# since clips of Kinetics may be up to 0.75 s short.
_base_ = './ava.py'
data_root = 'data/ava_kinetics'
anno_root = f'{data_root}/annotations'
_dataset = dict(
    type='CheckedAVAKineticsDataset',
    label_file=None,
    count_frames=True,
    data_prefix=dict(img=f'{data_root}/rawframes'))
train_dataloader = dict(dataset=dict(
    **_dataset,
    ann_file=f'{anno_root}/ava_train_v2.2.csv',
    exclude_file=f'{anno_root}/ava_train_excluded_timestamps_v2.2.csv'))
val_dataloader = dict(dataset=dict(
    **_dataset,
    ann_file=f'{anno_root}/ava_val_v2.2.csv',
    exclude_file=f'{anno_root}/ava_val_excluded_timestamps_v2.2.csv'))
test_dataloader = val_dataloader
label_file = f'{anno_root}/ava_action_list_v2.2_for_activitynet_2019.pbtxt'
val_evaluator = dict(
    ann_file=f'{anno_root}/ava_val_v2.2.csv',
    exclude_file=f'{anno_root}/ava_val_excluded_timestamps_v2.2.csv',
    label_file=label_file)
test_evaluator = val_evaluator
del _dataset
