# What benchmarks that score all queries on single frames, A2D- and JHMDB-Sentences, change in a
# model: model = {{_base_.single_frame_model}} in a leaf.
single_frame_model = dict(
    data_preprocessor=dict(test_divisor=32),
    test_cfg=dict(keep='all', resize='masks'),
)
