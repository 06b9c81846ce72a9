"""Data sets partitioned by writer: open, convert (LEAF JSON, image folders), draw synthetic ones, inspect."""

from __future__ import annotations

from mindfl.data.dataset import check_dataset, convert_dataset, open_dataset
from mindfl.data.fingerprints import Fingerprint, fingerprint
from mindfl.data.images import convert_images
from mindfl.data.leaf import convert_leaf
from mindfl.data.partitions import partition
from mindfl.data.samples import Dataset, Split, StoredDataset, UserData
from mindfl.data.shakespeare import convert_shakespeare
from mindfl.data.summary import Summary, inspect_dataset
from mindfl.data.synthetic import make_synthetic
from mindfl.data.text_dataset import convert_text
from mindfl.data.without_users import convert_csv, convert_idx
from mindfl.data.writer import Report

__all__ = [
    "Dataset",
    "Fingerprint",
    "Report",
    "Split",
    "StoredDataset",
    "Summary",
    "UserData",
    "check_dataset",
    "convert_csv",
    "convert_dataset",
    "convert_idx",
    "convert_images",
    "convert_leaf",
    "convert_shakespeare",
    "convert_text",
    "fingerprint",
    "inspect_dataset",
    "make_synthetic",
    "open_dataset",
    "partition",
]
