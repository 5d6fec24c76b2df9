"""`moorgate bootstrap` end to end: the first run, the second, each loss, each death, and what it says when it can't."""

import asyncio
import base64
import json
from typing import Any

import pytest
import yaml

from deploy.dev.anchore.faults import Fault
from services.cli.bootstrap import anchore as client
from services.cli.bootstrap import secrets
from services.cli.bootstrap.bundles import PREDEFINED
from shared.errors import Unavailable
from tests.cli.bootstrap.site import SECRET, Site

DEFAULT_BUNDLE = "2c53a13c-1765-11e8-82ef-23527761d060"


async def test_the_first_run_makes_everything(site: Site) -> None:
    outcome = await site.run()
    assert (outcome.error, outcome.code) == ("", 0)
    directory = site.simulator.engine.directory
    assert directory.accounts[site.name].email == "moorgate@example.org"
    user = directory.users[site.name]
    secret = await site.secret()
    assert secret is not None
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values == {
        "username": site.name,
        "password": user.password,
        "account": site.name,
        "url": site.simulator.url,
    }
    assert len(user.password) >= 32
    assert secret["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "moorgate"}
    assert set(site.space.policies) == {*PREDEFINED, DEFAULT_BUNDLE}
    assert site.active == "reject_critical"
    users = {name: each["registry_user"] for name, each in site.space.registries.items()}
    assert users == {"docker.io": "hub", "registry.example:5000": "robot"}
    assert "created" in {line.split()[0] for line in outcome.lines}
    assert set(directory.spaces) == {"admin", site.name}


async def test_notifications_reach_the_receiver_by_each_apis_own_way(site: Site) -> None:
    outcome = await site.run()
    if site.simulator.settings.apis == ("v1",):
        text = "\n".join(outcome.lines)
        assert "webhook_user: anchore" in text
        assert 'url: "https://scanner.example:9443/notifications/<userId>/<notification_type>"' in text
        return
    [configuration] = site.simulator.engine.outbox.configurations.values()
    assert configuration.hook.url == "https://scanner.example:9443/notifications"
    assert (configuration.hook.user, configuration.hook.password) == ("anchore", "a secret of the receiver")
    assert (configuration.account, configuration.hook.is_verified) == (site.name, True)
    [selector] = configuration.selectors.values()
    assert (selector["scope"], selector["event"]["type"]) == ("account", "user.*")


async def test_the_second_run_changes_nothing(site: Site) -> None:
    await site.run()
    before, secret = dict(site.space.policies), await site.secret()
    site.simulator.counters.reset()
    outcome = await site.run()
    assert (outcome.code, outcome.changes) == (0, [])
    assert site.mutations() == []
    assert site.space.policies == before
    assert await site.secret() == secret


async def test_a_dry_run_changes_nothing_and_says_what_the_real_one_does(site: Site) -> None:
    site.simulator.counters.reset()
    dry = await site.run(dry_run=True)
    assert (dry.code, site.mutations(), await site.secret()) == (0, [], None)
    assert set(site.simulator.engine.directory.accounts) == {"admin"}
    real = await site.run()
    said = {line.removeprefix("would ").split(maxsplit=1)[1] for line in dry.changes}
    done = {line.split(maxsplit=1)[1] for line in real.changes}
    assert said - done == set()
    assert {each for each in done - said if not each.startswith("selector")} == set()


async def test_a_dry_run_beside_what_is_there(site: Site) -> None:
    await site.run()
    site.settings(bundles={"active": "deny_all"})
    site.simulator.counters.reset()
    dry = await site.run(dry_run=True)
    assert (dry.changes, site.mutations()) == (["would activate bundle deny_all"], [])


async def lose_the_user(site: Site) -> None:
    del site.simulator.engine.directory.users[site.name]


async def lose_the_account(site: Site) -> None:
    await lose_the_user(site)
    del site.simulator.engine.directory.accounts[site.name]
    del site.simulator.engine.directory.spaces[site.name]
    site.simulator.engine.outbox.configurations.clear()


async def lose_the_secret(site: Site) -> None:
    await site.kubectl.ok("delete", "secret", SECRET)


async def lose_the_password_in_the_secret(site: Site) -> None:
    await site.kubectl.ok("patch", "secret", SECRET, "-p", '{"data": {"password": null, "mine": "eA=="}}')


async def change_the_password_in_anchore(site: Site) -> None:
    site.simulator.engine.directory.users[site.name].password = "somebody's"


async def lose_a_bundle(site: Site) -> None:
    del site.space.policies["deny_all"]


async def change_the_active_bundle(site: Site) -> None:
    bundle = json.loads(json.dumps(site.space.policies["reject_critical"].bundle))
    bundle["policies"][0]["rules"] = []
    site.space.policies["reject_critical"].bundle = bundle


async def activate_another(site: Site) -> None:
    site.space.policies["reject_critical"].active = False
    site.space.policies[DEFAULT_BUNDLE].active = True


async def lose_a_registry(site: Site) -> None:
    del site.space.registries["docker.io"]


async def change_the_pull_secret(site: Site) -> None:
    await site.pull_secret({"docker.io": {"username": "hub", "password": "another one"}})


LOSSES = [
    lose_the_user,
    lose_the_account,
    lose_the_secret,
    lose_the_password_in_the_secret,
    change_the_password_in_anchore,
    lose_a_bundle,
    change_the_active_bundle,
    activate_another,
    lose_a_registry,
    change_the_pull_secret,
]


async def test_each_loss_is_mended(site: Site) -> None:
    await site.run()
    for lose in LOSSES:
        await lose(site)
        mended = await site.run()
        assert (mended.code, bool(mended.changes)) == (0, True), (lose.__name__, mended)
        await assert_whole(site, lose.__name__)
    secret = await site.secret()
    assert secret is not None
    assert secret["data"]["mine"] == "eA=="


async def assert_whole(site: Site, after: object) -> None:
    """Everything is as the first run makes it, and one more finds nothing to do."""
    assert site.simulator.engine.directory.users[site.name].password == await site.password(), after
    assert site.active == "reject_critical", after
    assert set(PREDEFINED) <= set(site.space.policies), after
    site.simulator.counters.reset()
    again = await site.run()
    assert (again.code, again.changes, site.mutations()) == (0, [], []), after


async def test_a_run_that_dies_at_any_call_is_mended_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each changing call and after it: the call was made, and its answer never seen."""
    calls = Calls(monkeypatch)
    await site.run()
    total = calls.made
    assert total >= 11
    for number in range(1, total + 1):
        for late in (False, True):
            site.name = f"dies-{number}-{late}".lower()
            await site.kubectl.run("delete", "secret", SECRET)
            site.settings()
            calls.die_at(number, late=late)
            died = await site.run()
            assert died.code == 1, (number, late, died)
            calls.die_at(0)
            mended = await site.run()
            assert mended.code == 0, (number, late, mended)
            await assert_whole(site, (number, late))


class Calls:
    """Counts the changing calls, to Anchore and for the Secret, and lets one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self._fatal, self._late = 0, 0, False
        send, write = client.Anchore.send, secrets.write
        monkeypatch.setattr(client.Anchore, "send", self._deadly(send))
        monkeypatch.setattr(secrets, "write", self._deadly(write))

    def die_at(self, number: int, *, late: bool = False) -> None:
        self.made, self._fatal, self._late = 0, number, late

    def _deadly(self, call: Any) -> Any:
        async def made(*arguments: Any, **options: Any) -> Any:
            self.made += 1
            dies = self.made == self._fatal
            if dies and not self._late:
                raise Unavailable("anchore", "the test ended it")
            answer = await call(*arguments, **options)
            if dies:
                raise Unavailable("anchore", "the test ended it")
            return answer

        return made


async def test_the_active_bundle_is_never_inactive_while_it_is_changed(site: Site) -> None:
    await site.run()
    await change_the_active_bundle(site)
    engine, seen = site.simulator.engine, []
    handlers = {each.name: each for each in site.simulator.server._operations.all}
    assert "policy_update" in handlers
    catch_up = engine.catch_up

    def watch() -> None:  # before and after every operation
        catch_up()
        seen.append(site.active)

    engine.catch_up = watch  # type: ignore[method-assign]
    outcome = await site.run()
    assert "bundle reject_critical" in outcome.of("updated")
    assert set(seen) == {"reject_critical"}
    assert len(seen) > 6


@pytest.mark.parametrize("kind", ["v1", "v2"])
async def test_bundles_of_either_format_are_taken(site: Site, kind: str) -> None:
    document: dict[str, Any] = json.loads(OWN[kind])
    (site.folder / "own.json").write_text(json.dumps(document))
    site.settings(bundles={"predefined": [], "files": ["own.json"], "active": "own"})
    outcome = await site.run()
    assert (outcome.code, outcome.error, site.active) == (0, "", "own")
    assert any("own: no mapping for all images" in line for line in outcome.of("warning"))
    await site.run()
    assert (await site.run()).changes == []
    stored = site.space.policies["own"].bundle
    assert stored["policies"][0]["rules"][0]["params"][1] == {"name": "type", "value": "blacklist"}


OWN = {
    "v1": """{"id": "own", "version": "1_0", "policies": [{"id": "p", "version": "1_0", "rules": [
        {"gate": "dockerfile", "trigger": "exposed_ports", "action": "STOP",
         "params": [{"name": "ports", "value": "22"}, {"name": "type", "value": "blacklist"}]}]}],
        "mappings": [{"registry": "docker.io", "repository": "*", "image": {"type": "tag", "value": "*"},
         "policy_id": "p", "name": "x"}]}""",
    "v2": """{"id": "own", "name": "own", "version": "2", "rule_sets": [{"id": "p", "name": "p", "version": "2",
        "artifact_type": "image", "rules": [{"id": "1", "gate": "dockerfile", "trigger": "exposed_ports",
        "action": "STOP", "params": [{"name": "ports", "value": "22"}, {"name": "type", "value": "denylist"}]}]}],
        "allowlists": [], "mappings": [{"id": "m", "name": "x", "registry": "docker.io", "repository": "*",
         "image": {"type": "tag", "value": "*"}, "rule_set_ids": ["p"], "allowlist_ids": []}]}""",
}


async def test_without_a_secret_the_administrators_account_is_used(site: Site) -> None:
    site.settings(account=None, user=None, secret=None, registries=None)
    outcome = await site.run()
    assert (outcome.code, set(site.simulator.engine.directory.accounts)) == (0, {"admin"})
    active = site.simulator.engine.directory.space("admin").active_policy()
    assert active is not None
    assert active.policy_id == "reject_critical"


async def test_json_for_machines(site: Site) -> None:
    outcome = await site.run(output="json")
    [line] = outcome.lines
    shown = json.loads(line)
    assert (shown["dryRun"], shown["error"]) == (False, None)
    assert {"verb": "created", "what": f"account {site.name}"} in shown["steps"]
    again = yaml.safe_load("\n".join((await site.run(output="yaml")).lines))
    assert {"verb": "unchanged", "what": f"account {site.name}"} in again["steps"]


async def test_a_wrong_administrators_password_is_one_line_at_once(site: Site) -> None:
    (site.folder / "admin").write_text("wrong")
    outcome = await site.run()
    assert outcome.code == 1
    [line] = outcome.error.splitlines()
    assert "does not accept the password of 'admin': correct anchore.passwordFile" in line


async def test_anchore_is_waited_for(site: Site) -> None:
    site.simulator.add_fault(Fault(operation="version", kind="error", status=503, times=2))
    site.settings(waitFor="30s")
    outcome = await site.run()
    assert outcome.code == 0
    assert outcome.error.startswith(f"moorgate: waiting for Anchore at {site.simulator.url}: ")


async def test_an_anchore_that_never_comes_is_one_line(site: Site) -> None:
    await site.simulator.refuse_connections()
    site.settings(waitFor="1s")
    outcome = await site.run()
    assert outcome.code == 1
    [line] = outcome.error.splitlines()
    assert f"Anchore at {site.simulator.url} did not get ready within 1 s" in line


async def test_a_user_of_another_account_is_not_taken_over(site: Site) -> None:
    site.settings(user={"name": "admin"})
    outcome = await site.run()
    assert (outcome.code, len(outcome.error.splitlines())) == (1, 1)
    assert "a user.name must be free in all accounts" in outcome.error
    assert site.simulator.engine.directory.users["admin"].password == "foobar"


async def test_a_disabled_account_is_said(site: Site) -> None:
    await site.run()
    site.simulator.engine.directory.accounts[site.name].state = "disabled"
    outcome = await site.run()
    assert outcome.code == 1
    assert f"account {site.name} is disabled in Anchore" in outcome.error


async def test_a_bundle_that_anchore_refuses_is_said_with_its_reason(site: Site) -> None:
    (site.folder / "own.json").write_text(OWN["v1"].replace("exposed_ports", "exposed_parts"))
    site.settings(bundles={"predefined": [], "files": ["own.json"]})
    outcome = await site.run()
    assert outcome.code == 1
    assert "The specified trigger is not found" in outcome.error


async def test_a_pull_secret_that_is_missing_or_no_use_is_said(site: Site) -> None:
    site.settings(registries=[{"namespace": site.kubectl.namespace, "name": "gone"}])
    outcome = await site.run()
    assert (outcome.code, "there is no Secret" in outcome.error) == (1, True)
    await site.pull_secret({"ghcr.io": {"identitytoken": "x"}, "*.example": {"auth": "YTpi"}})
    site.settings()
    outcome = await site.run()
    assert outcome.code == 0
    assert len(outcome.of("warning")) == 2
    assert site.space.registries == {}


async def test_two_runs_at_once_leave_credentials_that_work(site: Site) -> None:
    commands = [asyncio.to_thread(client_command) for _ in range(2)]
    await asyncio.gather(*commands)
    assert (await site.run()).code == 0
    await assert_whole(site, "two at once")


def client_command() -> int:
    from services.cli.bootstrap.command import command  # noqa: PLC0415

    return command()


async def test_a_new_secret_of_the_receiver_is_told_to_anchore(site: Site) -> None:
    await site.run()
    (site.folder / "hook").write_text("the next one")
    outcome = await site.run()
    again = await site.run()
    assert again.changes == []
    if site.simulator.settings.apis == ("v1",):
        assert outcome.changes == []
        return
    assert outcome.changes == ["updated        notifications to https://scanner.example:9443/notifications"]
    [configuration] = site.simulator.engine.outbox.configurations.values()
    assert (configuration.hook.password, len(configuration.selectors)) == ("the next one", 1)


async def test_an_api_that_is_not_there_is_said(site: Site) -> None:
    other = {"v1": "v2", "v2": "v1"}[site.simulator.settings.apis[0]]
    site.settings(anchore={"url": site.simulator.url, "passwordFile": "admin", "api": other}, waitFor="1s")
    outcome = await site.run()
    assert outcome.code == 1
    assert f"the server has no /{other}/account" in outcome.error


async def test_nats_that_never_comes_is_one_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORGATE_NATS_URL", "nats://127.0.0.1:9")
    site.settings(waitFor="1s")
    outcome = await site.run()
    assert outcome.code == 1
    assert outcome.error.splitlines()[-1].startswith("moorgate: NATS does not answer at nats://127.0.0.1:9")


async def test_a_namespace_that_is_missing_is_one_line(site: Site) -> None:
    site.settings(secret={"namespace": "nowhere", "name": "x"})
    outcome = await site.run()
    assert (outcome.code, len(outcome.error.splitlines())) == (1, 1)
    assert 'namespaces "nowhere" not found' in outcome.error
    assert site.name not in site.simulator.engine.directory.users


async def test_a_bad_file_is_exit_code_2(site: Site) -> None:
    site.settings(anchor={"url": "x"})
    outcome = await site.run()
    assert (outcome.code, len(outcome.error.splitlines())) == (2, 1)
