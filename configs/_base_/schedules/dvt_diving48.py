# DVT on Diving-48: the paper says no more than that its recipe is MViT's,
# which knows no such data; the schedule of Something-Something V2 is our choice.
_base_ = './dvt_sthv2.py'
