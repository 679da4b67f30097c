"""The command `attestd-agent`: settings off the line, `run` at once, every other command through commands.py.

This file is what a device starts with, so it imports neither typer nor rich: the service is up before they would be.
It is the one place that turns errors into exit codes (errors.ExitCode). Settings and --json may stand anywhere on the
line and mean the same for every command.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from attestd_agent import config
from attestd_agent.errors import AgentError, ConfigurationError, ExitCode
from attestd_agent.keystore import KeystoreRefused
from attestd_agent.tpm import TpmRefused, TpmUnavailable

_FLAGS: Final = {f"--{name.replace('_', '-')}": name for name in ("config", *config.SETTINGS)}


@dataclass(frozen=True, slots=True)
class Line:
    """A command line, taken apart: settings, the wish for JSON, and what remains for the command."""

    file: Path | None = None
    flags: dict[str, str] = field(default_factory=dict)
    as_json: bool = False
    rest: tuple[str, ...] = ()

    def settings(self) -> config.Settings:
        """Return the settings of file, environment and line. *Raises* ConfigurationError."""
        return config.load(self.file, os.environ, self.flags)


def take_apart(arguments: Sequence[str]) -> Line:
    """Return the line with its settings taken out. *Raises* ConfigurationError for a setting without a value."""
    flags: dict[str, str] = {}
    rest: list[str] = []
    as_json = False
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if word == "--json":
            as_json = True
        elif flag in _FLAGS:
            value = value if equals else next(words, "")
            if not value:
                raise ConfigurationError(f"{flag} needs a value")
            flags[_FLAGS[flag]] = value
        else:
            rest.append(word)
    path = flags.pop("config", None)
    return Line(None if path is None else Path(path), flags, as_json, tuple(rest))


def main() -> NoReturn:
    """Run the command of this process and end it."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are told on stderr in one sentence, or in JSON."""
    as_json = "--json" in arguments
    try:
        line = take_apart(arguments)
        if line.rest == ("run",):
            return serve(line)
        from attestd_agent import commands

        return commands.dispatch(line)
    except AgentError as error:
        return _fail(error.exit_code, str(error), as_json=as_json)
    except KeystoreRefused as error:
        return _fail(ExitCode.USAGE, str(error), as_json=as_json)
    except TpmUnavailable as error:
        advice = "is there a TPM, does --tcti name it, and may this user open it?"
        return _fail(ExitCode.TPM, f"the TPM does not answer: {error}: {advice}", as_json=as_json)
    except TpmRefused as error:
        return _fail(ExitCode.TPM, f"the TPM refuses ({error.code}): {error}", as_json=as_json)
    except OSError as error:
        return _fail(ExitCode.USAGE, f"{error.filename or 'a file'}: {error.strerror or error}", as_json=as_json)
    except KeyboardInterrupt:
        return 130


def serve(line: Line) -> int:
    """Run the service until it is told to end; return 0. *Raises* ConfigurationError, KeystoreRefused."""
    from attestd_agent import run
    from attestd_agent.attempt import Agent, connect
    from attestd_agent.journal import Journal
    from attestd_agent.proof import Sources
    from attestd_agent.record import Record
    from attestd_agent.tpm_esys import EsysTpm

    settings = line.settings()
    server = settings.verifier()
    log = Journal(sys.stdout, as_json=line.as_json, stamped="JOURNAL_STREAM" not in os.environ)
    store = Record(settings.state_directory, server)
    signals = run.Signals()
    signals.install()

    def transport() -> run.Interruptible:
        with signals.interruptible():
            return run.Interruptible(connect(settings, store), signals)

    agent = Agent(
        server.host,
        EsysTpm(settings.tcti),
        store,
        sources=Sources(settings.event_log, settings.ima_list),
        transport=transport,
        log=log,
    )
    try:
        log("started", server=server.authority, state_directory=settings.state_directory, tcti=settings.tcti)
        run.forever(agent, signals, log=log)
    except run.Stopped:
        run.notify("STOPPING=1")
        log("stopped")
        return 0
    finally:
        agent.close()


def _fail(code: ExitCode, message: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": message, "exit_code": int(code)}))
    else:
        print(f"attestd-agent: {message}", file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    main()
