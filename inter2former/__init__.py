"""Inter2Former (arXiv 2507.09612, ICCV 2025): a dense-token interactive segmentation model for CPUs."""
