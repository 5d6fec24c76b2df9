"""`moorgate completion`: what it prints is a script that a shell takes."""

import asyncio

from tests.support.command_line import CommandLine


async def test_bash_completes_by_it() -> None:
    script = (await CommandLine().ok("completion", "bash")).stdout
    child = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"{script}\ncomplete -p moorgate",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert (child.returncode, err) == (0, b"")
    assert out.endswith(b"moorgate\n")
    assert {"whitelist", "explain", "--all-namespaces"} <= set(
        script.replace('"', " ").replace("'", " ").split()
    )


async def test_an_unknown_command_is_one_line() -> None:
    await CommandLine().refuses(
        (2, "Unknown command", ("nonsense",)), (2, '"csh" for SHELL', ("completion", "csh"))
    )
