"""Start Patchbay: python start.py [command] [options]; --help lists them.

Makes .venv, installs what requirements.lock pins, and hands over to webui.cli. A start after that installs nothing.
This file must still parse on Pythons that are too old to run the program, so that it can say so.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))

# The makers' own indexes, for what the package index does not have. Used only where they answer within seconds.
WHEELS = {
    "torch": "https://download.pytorch.org/whl/",  # + cpu, cu130, rocm7.1
    "llama": "https://abetlen.github.io/llama-cpp-python/whl/",  # + cpu, metal, cu130, rocm72, vulkan
}
CUDA_RELEASES = ((13, 2), (13, 0), (12, 5), (12, 4), (12, 1))  # of the second, newest first
BUILDS = {  # card: (toolkit, name, flags for CMake, usual time, the maker's own build)
    "nvidia": ("cuda", "CUDA", "-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native", "20 minutes", "cu"),
    "amd": ("hip", "HIP", "-DGGML_HIP=ON", "20 minutes", "rocm72"),
    "apple": ("", "Metal", "-DGGML_METAL=ON", "5 minutes", "metal"),
    "other": ("vulkan", "Vulkan", "-DGGML_VULKAN=ON", "10 minutes", "vulkan"),
}
LLAMA_CHECK = (
    "import re, llama_cpp as l; found = re.findall(r'(\\w+) (?:: |= 1)', l.llama_print_system_info().decode()); "
    "print(l.__version__, 'with', *found)"
)
TORCH_CHECK = "import torch, transformers; print(transformers.__version__ + '; PyTorch ' + torch.__version__)"


def say_too_old():
    """Name the Python that is needed, and one that is here already, if there is."""
    words = "Patchbay needs Python 3.11 or newer; this is Python {0}.{1} ({2}).\n"
    sys.stderr.write(words.format(sys.version_info[0], sys.version_info[1], sys.executable))
    for name in ("python3.13", "python3.12", "python3.11"):
        try:
            with open(os.devnull, "w") as nowhere:
                works = subprocess.call([name, "-c", "import venv"], stdout=nowhere, stderr=nowhere) == 0
        except OSError:
            works = False
        if works:
            sys.stderr.write("There is one on this machine. Run: {0} start.py\n".format(name))
            return
    sys.stderr.write("Get one from python.org, from your system's packages, or with pyenv or uv.\n")


def llama_ways():
    """How to get the llama.cpp engine, best first: built for the card, from its maker, built for the CPU."""
    from webui.setup.environment import SetupFailed
    from webui.setup.machine import COMPILER_CURE, graphics, has_compiler, reachable, toolkits
    from webui.setup.sections import Way

    card, compiler, ways = graphics(), has_compiler(), []
    if card in BUILDS:
        toolkit, name, flags, usually, makers = BUILDS[card]
        if compiler and (not toolkit or toolkit in toolkits()):
            ways.append(Way("built for " + name, build=True, flags=flags, usually=usually))
        index = WHEELS["llama"] + (cuda_release() if makers == "cu" else makers)
        if card in ("nvidia", "amd", "apple") and not ways and reachable(index):
            ways.append(Way(name + " build of its maker", ready_made(index)))
    if compiler:
        ways.append(Way("built for this CPU", build=True, flags="-DGGML_NATIVE=ON"))
    elif reachable(WHEELS["llama"] + "cpu"):
        ways.append(Way("CPU build of its maker", ready_made(WHEELS["llama"] + "cpu")))
    if not ways:
        cure = COMPILER_CURE.get(sys.platform, COMPILER_CURE["linux"])
        raise SetupFailed("it is built here, and there is no C++ compiler. " + cure, until="compiler")
    return ways


def ready_made(index):
    """Words for pip: take a package from its maker's index, and do not build it."""
    return ("--extra-index-url", index, "--only-binary", "llama-cpp-python")


def cuda_release():
    """The newest CUDA that both the driver and the maker have: cu130."""
    import re

    try:
        said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    found = re.search(r"CUDA Version: *([0-9]+)\.([0-9]+)", said)
    driver = (int(found.group(1)), int(found.group(2))) if found else (12, 1)
    return "cu{0}{1}".format(*next((r for r in CUDA_RELEASES if r <= driver), CUDA_RELEASES[-1]))


def torch_ways():
    """The PyTorch that fits the machine: the plain one would bring gigabytes for a card that is not there."""
    from webui.setup.machine import graphics, reachable
    from webui.setup.sections import Way

    card = graphics()
    if card == "apple" or (card == "nvidia" and sys.platform != "win32"):
        return [Way("for this card")]
    name, build = {"nvidia": ("for CUDA", "cu130"), "amd": ("for ROCm", "rocm7.1")}.get(card, ("for the CPU", "cpu"))
    ways = []
    if sys.platform != "darwin" and reachable(WHEELS["torch"] + build + "/torch/"):
        ways.append(Way(name, ("--extra-index-url", WHEELS["torch"] + build)))
    if not ways or card == "amd":
        ways.append(Way("for the CPU"))
    return ways


def without_cuda():
    """Why the ExLlamaV2 engine is left out here; empty where it can run."""
    from webui.setup.machine import graphics

    return "" if graphics() == "nvidia" else "it runs on NVIDIA cards only, and none was found"


def sections(command):
    """The sections of requirements.lock that a command needs, in order."""
    from webui.setup.sections import Section

    found = [
        Section("core", "the page, the stores and the plug-ins", "1 minute"),
        Section("llamacpp", "the llama.cpp engine", "6 minutes", loader="llama.cpp", main="llama-cpp-python",
                ways=llama_ways, check=LLAMA_CHECK),
        Section("transformers", "PyTorch and Transformers", "2 minutes", loader="Transformers", main="torch",
                ways=torch_ways, check=TORCH_CHECK),
        Section("exllamav2", "the ExLlamaV2 engine", "5 minutes", loader="ExLlamaV2",
                leave_out=without_cuda, check="import exllamav2; print(exllamav2.__version__)", patience=1200.0),
    ]  # fmt: skip
    if command == "test":
        found.append(Section("tests", "what the tests need", "20 seconds"))
        found.append(Section("dev", "lint and types", "20 seconds"))
    return found


def prepare(command, environment):
    """Bring the environment to what requirements.lock says; where it is, this takes milliseconds."""
    from pathlib import Path

    from webui.setup.environment import SetupFailed
    from webui.setup.sections import Installer

    lock, wanted, again = Path(ROOT, "requirements.lock"), sections(command), command == "setup"
    if not again and environment.python.exists() and not Installer(environment, lock).pending(wanted):
        return
    try:
        with environment.alone():
            environment.make()
            installer = Installer(environment, lock)
            troubles = installer.install(installer.pending(wanted, again=again))
            for trouble in troubles:
                sys.stdout.write(trouble + "\nPatchbay starts without it. To try again: python start.py setup\n")
            sys.stdout.flush()  # before the program writes to the same place
            if again and not troubles:
                print("Everything stands. python start.py doctor says what works on this machine.")
    except SetupFailed as error:
        sys.exit("Patchbay could not be set up. {0}".format(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Run the same command again, and it continues.\n")
        sys.exit(130)


def find_modules():
    """Let webui.setup and webui.core.config be imported before the packages are there that webui itself imports."""
    import types

    package = types.ModuleType("webui")
    package.__path__ = [os.path.join(ROOT, "webui")]
    sys.modules["webui"] = package


def main(words):
    """Set up what is missing, then run the command; the exit status."""
    command = words[0] if words and not words[0].startswith("-") else "serve"
    rest = words[1:] if words and command == words[0] else words
    find_modules()
    if command != "test" and ("--help" in rest or "-h" in rest):
        from webui.core.config import parser

        parser().print_help()
        return 0
    from pathlib import Path

    from webui.setup.environment import Environment
    from webui.setup.supervise import Supervisor

    if command not in ("serve", "test", "doctor", "setup"):
        from webui.core.config import COMMANDS, did_you_mean

        sys.exit("start.py: there is no command {0}. {1}".format(command, did_you_mean(command, COMMANDS)))
    environment = Environment(Path(ROOT))
    if command == "serve" and not environment.python.exists():
        from webui.core.config import parser

        parser().parse_args(rest)  # a typing error is better found before ten minutes of installing
    prepare(command, environment)
    supervisor = Supervisor(Path(ROOT), environment.python)
    if command == "serve":
        return supervisor.run(rest)
    if command == "setup":
        return 0
    program = ["-m", "pytest"] if command == "test" else ["-m", "webui", command]
    if command == "test":
        os.chdir(ROOT)
    return supervisor.hand_over(program + rest)


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        say_too_old()
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    sys.exit(main(sys.argv[1:]))
