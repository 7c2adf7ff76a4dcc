"""``delia submit VERB``: a verb as a job of a Ray cluster, with Ray's own job submission."""

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from delia_ray.cli.session import COMMIT, read_commit
from delia_ray.core.errors import UserError
from delia_ray.core.mirrored_run import check_store
from delia_ray.core.storage.paths import to_uri
from delia_ray.core.storage.stores import MissingBucketError
from delia_ray.placement import Cluster
from delia_ray.serving.http.keys import VARIABLE
from delia_ray.settings import Settings

_EXCLUDED = (".git", ".venv*", "runs", "build", "dist", "__pycache__", ".*_cache", "*.safetensors", "*.gguf", "*.bin")
_IGNORE_GITIGNORE = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"
"""Lets Ray upload what ``.gitignore`` names: rows that git leaves out are read by the run all the same."""
_MAX_UPLOAD_BYTES = 100 * 2**20
_STOP_SECONDS = 600
"""How long a stopped job may take: training writes a checkpoint. Ray's default of 3 seconds would kill it."""
_POLL_SECONDS = 1.0
_INTERRUPTED = 130


def submit(verb: str, files: Sequence[Path], overrides: Sequence[str], settings: Settings, *, waits: bool) -> int:
    """Upload the working folder, run the verb on the cluster, and follow its log.

    Args:
        verb: what to run there.
        files: the configs, which must lie in the working folder.
        overrides: ``key=value``.
        settings: what they lead to; checked before anything is uploaded.
        waits: whether to follow the log until the job ends.

    Returns:
        The job's exit code; 0 where it is not waited for.

    Raises:
        UserError: something is not usable on the cluster, or no cluster answers.
    """
    _check_root(settings)
    configs = [word for file in files for word in ("--config", _find_in_working_folder(file))]
    size = _check_upload(Path.cwd())
    cluster = settings.placement.cluster
    if verb == "serve":
        _check_keys(cluster)
    client = _connect(cluster)
    os.environ.setdefault(_IGNORE_GITIGNORE, "1")
    job = client.submit_job(
        entrypoint=shlex.join(["python", "-m", "delia_ray", *verb.split(), *configs, *overrides]),
        submission_id=f"{settings.run.name}-{verb.replace(' ', '-')}-{time.strftime('%Y%m%d-%H%M%S')}",
        runtime_env={"working_dir": ".", "excludes": list(_EXCLUDED), "env_vars": _collect_environment(cluster)},
        metadata={"run": to_uri(settings.run.path)},
    )
    print(f"{job}: submitted to {cluster.jobs_address} with {size / 2**20:.1f} MiB of {Path.cwd()}", flush=True)
    if not waits:
        print(f"  {_explain_follow(cluster, job)}")
        return 0
    return _follow(client, job, cluster)


def _check_root(settings: Settings) -> None:
    root = settings.run.root
    try:
        check_store(root, "run.root")
    except MissingBucketError:
        raise
    except UserError:  # the nodes may have the credentials, or the way to the store, that this machine lacks; the job finds out
        pass
    if not root.is_absolute():
        raise UserError(
            f"run.root: {root} would lie in the job's copy of the working folder, which Ray deletes; give an absolute path that all nodes "
            "share (run.root=/mnt/runs), or a bucket (run.root=s3://bucket/runs)"
        )


def _check_keys(cluster: Cluster) -> None:
    """Refuse keys of an endpoint that stay on this machine: there it would ask for none.

    Raises:
        UserError: they are in a variable that the job does not have.
    """
    if VARIABLE in os.environ and VARIABLE not in cluster.environment:
        raise UserError(
            f"submit: {VARIABLE} is set here, and the job would not have it; add it to placement.cluster.environment, or unset it here and "
            "name a file of keys that the cluster sees (placement.serve.access.keys)"
        )


def _find_in_working_folder(file: Path) -> str:
    """Return the path of a config as the job sees it.

    Raises:
        UserError: it is not in the folder that is uploaded.
    """
    if not file.resolve().is_relative_to(Path.cwd()):
        raise UserError(f"--config {file}: is not in {Path.cwd()}, which is what the cluster gets; copy it here, or submit from its folder")
    return str(file.resolve().relative_to(Path.cwd()))


def _check_upload(folder: Path) -> int:
    """Return the bytes of the files to upload.

    Raises:
        UserError: they are too many; the message names the largest.
    """
    sizes = {file: file.stat().st_size for file in _list_uploaded(folder)}
    if (total := sum(sizes.values())) > _MAX_UPLOAD_BYTES:
        largest = sorted(sizes, key=lambda file: sizes[file], reverse=True)[:3]
        named = ", ".join(f"{file.relative_to(folder)} ({sizes[file] / 2**20:.0f} MiB)" for file in largest)
        raise UserError(
            f"submit: {folder} has {total / 2**20:.0f} MiB to upload, more than {_MAX_UPLOAD_BYTES / 2**20:.0f}: {named}; submit from a "
            "folder with the configs and the task's rows alone, and put models where all nodes see them"
        )
    return total


def _list_uploaded(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_excluded(name)]
        yield from (Path(parent, name) for name in files if not _is_excluded(name) and not Path(parent, name).is_symlink())


def _is_excluded(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _EXCLUDED)


def _collect_environment(cluster: Cluster) -> dict[str, str]:
    """Return the environment of the job: the variables that ``cluster`` names, as far as they are set here."""
    given = {name: os.environ[name] for name in cluster.environment if name in os.environ}
    commit = read_commit()
    return {**given, **({COMMIT: commit} if commit else {}), "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}


def _connect(cluster: Cluster) -> Any:
    """Connect to the cluster's job server.

    Raises:
        UserError: none answers, or it refuses the token.
    """
    from ray.exceptions import AuthenticationError  # noqa: PLC0415  seconds to import, as the next
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

    try:
        client = JobSubmissionClient(cluster.jobs_address)
    except (AuthenticationError, ConnectionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"placement.cluster.jobs_address: no cluster takes jobs at {cluster.jobs_address} ({reason}); forward its port with `ray "
            "dashboard` or `kubectl port-forward`, and check the token (`ray get-auth-token`)"
        ) from None
    return client


def _follow(client: Any, job: str, cluster: Cluster) -> int:
    """Print the job's log until it ends; an interrupt asks whether to stop it.

    Raises:
        UserError: the cluster cannot be reached any more; the job goes on.
    """
    try:
        try:
            asyncio.run(_print_log(client, job))
        except KeyboardInterrupt:
            if not _wants_to_stop(job):
                raise
            client.stop_job(job)
            print(f"{job}: is stopping; a training writes a checkpoint first, and the same command goes on from it", flush=True)
        return _wait_for_end(client, job)
    except KeyboardInterrupt:
        print(f"{job}: goes on\n  {_explain_follow(cluster, job)}")
        return _INTERRUPTED
    except (RuntimeError, OSError) as error:  # of a port that is not forwarded any more, for example
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"submit: the cluster cannot be reached any more ({reason}); {job} goes on there: `{_explain_follow(cluster, job)}` follows it"
        ) from None


def _explain_follow(cluster: Cluster, job: str) -> str:
    return f"ray job logs --follow --address {cluster.jobs_address} {job}"


async def _print_log(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def _wants_to_stop(job: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"\n{job}: stop it? [y/N] ").strip().lower().startswith("y")
    except EOFError:
        return False


def _wait_for_end(client: Any, job: str) -> int:
    while not client.get_job_status(job).is_terminal():
        time.sleep(_POLL_SECONDS)
    info = client.get_job_info(job)
    if info.driver_exit_code is None and info.message:
        print(f"{job}: {info.status}: {info.message}", file=sys.stderr)
    return int(info.driver_exit_code if info.driver_exit_code is not None else info.status != "SUCCEEDED")
