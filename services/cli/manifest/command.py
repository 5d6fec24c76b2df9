"""`moorgate manifest check FILE…`: whether the Pods of manifests would be admitted, by the policies that are in force now.

Exit codes: 0 all would be, 1 one would be refused, 2 a flag or a manifest is no good, 3 of one it could not be found out
(its scan goes on, no verdict is to be had, cluster or NATS do not answer), and none would be refused.
"""

from pathlib import Path
from typing import Annotated

import cyclopts

from services.cli import check, frame
from services.cli.frame import ClusterFlags, NatsFlags, Text
from services.cli.manifest import files, sources
from services.cli.manifest.judging import Fate, Told
from services.cli.manifest.text import report, shown
from services.cli.output import emit
from shared import lifecycle
from shared.errors import BadSetting

app = cyclopts.App(name="manifest", help="Manifests, before they are applied.")


@app.command(name="check")
def check_manifests(
    *file: Annotated[str, cyclopts.Parameter(allow_leading_hyphen=True)],
    namespace: Annotated[str | None, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    policies: Path | None = None,
    wait: str = "5m",
    output: Text = "text",
    cluster: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
    nats: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Say of manifests whether their Pods would be admitted. Exit codes: 0 all, 1 one would be refused, 3 not known.

    Parameters
    ----------
    file
        Files, folders, or - for stdin.
    namespace
        Of manifests that name none; without it that of your kubeconfig's context.
    policies
        A file of ImagePolicies to judge by instead of the cluster's, as MOORGATE_POLICIES_FILE; no cluster is asked then.
    wait
        How long scans are waited for, such as 5m; 0 tells what is known now.
    """
    try:
        seconds = check.patience(wait)
        within = namespace or "default" if policies else cluster.namespace(namespace)
        found = files.read(file, within)
    except BadSetting as error:
        return lifecycle.explain(error)

    async def work() -> int:
        rules = await sources.rules(found, policies, cluster)
        told = await sources.told(found, rules, sources.Road(nats, cluster.context), seconds)
        emit([shown(each) for each in told], output, report(told))
        return _code(told)

    if not found.manifests:
        emit([], output, "nothing in it brings an image into the cluster")
        return frame.EXIT_OK
    return frame.run(work, verbose=cluster.verbose)


def _code(told: list[Told]) -> int:
    fates = {each.fate for each in told}
    if Fate.REFUSED in fates:
        return frame.EXIT_NO
    return frame.EXIT_UNKNOWN if Fate.UNKNOWN in fates else frame.EXIT_OK
