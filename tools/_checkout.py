# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Imported first by the tools: they run with the package of their own checkout,
installed or not."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
