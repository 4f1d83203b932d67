"""Systems that Inter2Former is compared with: one file a system, each a segmenter."""
