"""Other programs, run in sight: each is told on standard error before it runs, as wg-quick does."""

import shutil
import signal
import subprocess
import sys
from functools import partial

from wgpy.tools.errors import ToolError


def tell(command: str) -> None:
    """Show a command, or what stands for one, on standard error."""
    print(f"[#] {command}", file=sys.stderr, flush=True)


def run(*words: str, text: str = "") -> None:
    """Run a program with `text` on its standard input. ToolError if it is missing or fails."""
    tell(" ".join(words))
    try:
        status = subprocess.run(words, input=text, text=True, check=False).returncode
    except OSError as error:
        raise ToolError(f"{words[0]}: {error.strerror}") from None
    if status:
        raise ToolError(f"{words[0]} failed with status {status}")


def output(*words: str) -> str:
    """What a program prints, silently; nothing if it is missing or fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def have(program: str) -> bool:
    """Whether a program is installed."""
    return shutil.which(program) is not None


def run_hooks(hooks: list[str], name: str) -> None:
    """Run shell snippets in their order, `%i` replaced by the interface. ToolError on failure."""
    shell = ["bash", "-e", "-o", "pipefail"] if have("bash") else ["sh", "-e"]
    for hook in hooks:
        command = hook.replace("%i", name)
        tell(command)
        status = _run_unleft([*shell, "-c", command])
        if status:
            raise ToolError(f"{name}: the hook {hook!r} failed with status {status}")


def _run_unleft(argv: list[str]) -> int:
    """Run a program that does not outlive us when a signal ends us, whatever the moment."""
    ending = {signal.SIGINT, signal.SIGTERM}
    # A signal while the program is being started would leave nobody who knows of it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    unblock = partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
    try:
        process = subprocess.Popen(argv, preexec_fn=unblock)
    except BaseException:
        unblock()
        raise
    with process:
        try:
            unblock()
            return process.wait()
        except BaseException:
            process.kill()
            raise
