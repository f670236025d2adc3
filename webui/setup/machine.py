"""What this machine has to offer: a compiler, graphics cards and the toolkits to build for them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

COMPILER_CURE = {
    "linux": "Install one, on Debian and Ubuntu with: sudo apt install build-essential",
    "darwin": "Install one with: xcode-select --install",
    "win32": "Install the Visual Studio Build Tools with the C++ workload.",
}


def has_compiler() -> bool:
    """Whether C and C++ can be compiled here."""
    if sys.platform == "win32":
        installer = Path(os.environ.get("ProgramFiles(x86)", "C:/")) / "Microsoft Visual Studio/Installer/vswhere.exe"
        return shutil.which("cl") is not None or installer.exists()
    if sys.platform == "darwin" and not answers(["xcode-select", "-p"]):
        return False  # /usr/bin/cc is there all the same, and only offers to install one
    c = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), "")
    cxx = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), "")
    return bool(c and cxx)


def graphics() -> str:
    """``nvidia``, ``amd``, ``apple``, ``other`` (a card that only Vulkan reaches) or ``none``."""
    if sys.platform == "darwin":
        return "apple" if platform.machine() == "arm64" else "none"
    if any(Path("/proc/driver/nvidia/gpus").glob("*")) or answers(["nvidia-smi", "-L"], "GPU"):
        return "nvidia"
    nodes = Path("/sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id")
    if any(node.read_text().strip() not in ("", "0") for node in nodes):
        return "amd"
    return "other" if any(Path("/dev/dri").glob("renderD*")) else "none"


def toolkits() -> set[str]:
    """Which of ``cuda``, ``hip`` and ``vulkan`` a program can be built for here."""
    found = set()
    if shutil.which("nvcc") or Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin/nvcc").exists():
        found.add("cuda")
    if shutil.which("hipcc"):
        found.add("hip")
    headers = Path(os.environ.get("VULKAN_SDK", "/usr"), "include/vulkan/vulkan.h")
    if shutil.which("glslc") and headers.exists():
        found.add("vulkan")
    return found


def processor() -> str:
    """The features of this CPU: a program built natively for it runs where these are the same."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return lines[0] if lines else platform.machine()


def parallel_jobs() -> int:
    """How many compilers at once: one a core, and a gigabyte of memory for each."""
    cores = os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return cores
    return max(1, min(cores, memory // 2**30))


def reachable(address: str, seconds: float = 3.0) -> bool:
    """Whether an index answers soon; being offline is fine."""
    import urllib.request  # slow to import, and a start that installs nothing does not need it

    try:
        with urllib.request.urlopen(address, timeout=seconds) as answer:  # noqa: S310  # https, from our own table
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def answers(command: list[str], word: str = "") -> bool:
    """Whether a program is there, ends well within ten seconds and says ``word``."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and word in done.stdout


def cache_folder() -> Path:
    """Where built packages are kept between environments; may not exist or be writable."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~")) / "patchbay" / "built"
    home = os.environ.get("HOME") or "/nonexistent"
    if sys.platform == "darwin":
        return Path(home) / "Library" / "Caches" / "patchbay" / "built"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path(home) / ".cache") / "patchbay" / "built"
