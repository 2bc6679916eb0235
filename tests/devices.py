"""The OpenCL device that stands for a GPU: this machine's processor, through PoCL."""

from __future__ import annotations

from pathlib import Path

import pytest

needs_opencl = pytest.mark.skipif(
    not list(Path("/etc/OpenCL/vendors").glob("*.icd")), reason="no OpenCL device: apt-get install pocl-opencl-icd"
)
