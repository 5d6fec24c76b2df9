"""`moorgate explain pod/X`: the whole story of a decision, and what would let a refused Pod in.

Exit codes: 0 told, 1 there is neither a record nor such a thing, 2 a flag or a name is no good, 3 nothing could be found out. What
could not be looked at for want of rights or of NATS is said at the end, and hides nothing else.
"""

from datetime import UTC, datetime
from typing import Annotated

import cyclopts

from services.cli import explain_target, frame
from services.cli.explain_sources import Sources
from services.cli.explain_story import told
from services.cli.frame import ClusterFlags, NatsFlags, Text
from services.cli.output import emit


def command(
    target: str,
    *,
    namespace: Annotated[str | None, cyclopts.Parameter(name=["--namespace", "-n"])] = None,
    output: Text = "text",
    cluster: ClusterFlags = ClusterFlags(),  # noqa: B008  a value that never changes
    nats: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Tell the story of a decision: what was recorded, how it stands now, and what would let it in.

    Parameters
    ----------
    target
        pod/NAME, replicaset/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME, job/NAME or audit/NAME.
    namespace
        Where it is; without it the namespace of your kubeconfig's context.
    """

    async def work() -> int:
        nats.settings()  # what is wrong with a flag is said before anything is looked at
        within = cluster.namespace(namespace)
        async with cluster.cluster() as found:
            what = await explain_target.find(found, target, within)
            story = await Sources(found, nats, cluster.context).story(what)
        if story is None:
            frame.say(f"there is no {what.title} in namespace {within}, and no Audit of it")
            return frame.EXIT_NO
        emit(story, output, told(story, datetime.now(UTC)))
        return frame.EXIT_OK

    return frame.run(work, verbose=cluster.verbose)
