# Masks are carried from the surest frame of each video by SAM 2, as the paper's second column does
# by CFBI. Other weights: facebook/sam2.1-hiera-{tiny,small,base-plus}, yonigozlan/EdgeTAM-hf.
sam2 = dict(type='Sam2Propagator', model='facebook/sam2.1-hiera-large', fuse='propagated')
