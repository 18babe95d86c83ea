"""The compiled pipeline: what it declares, and what it asks of a cluster."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from components import IMAGE
from ddpm.errors import WrongInput
from ddpm.fields import describe
from ddpm.plan import PLACES, Plan, fields, parameter_names, places
from ddpm.presets import load_preset, preset_names
from pipelines import pipeline

SECOND = {f"{step}-2" for step in ("ingest", "train", "evaluate", "register", "promote")}  # of a second set
GPU_STEPS = {"search", "train", "evaluate", "promote", "train-2", "evaluate-2", "promote-2"}
STEPS = GPU_STEPS | SECOND | {"configure", "ingest", "register", "summarise"}


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(pipeline.COMPILED.read_text()))


@pytest.fixture
def executors(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[0]["deploymentSpec"]["executors"]


@pytest.fixture
def placed(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_committed_file_is_what_the_code_compiles_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert pipeline.main(["--check"]) == 0, capsys.readouterr().err


def test_a_file_that_drifted_is_noticed(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    drifted = tmp_path / "ddpm.yaml"
    drifted.write_text(pipeline.COMPILED.read_text().replace("NUMBER_INTEGER", "STRING", 1))
    assert pipeline.main(["--check", "--output", str(drifted)]) == 1
    assert "make compile" in capsys.readouterr().err


def test_comments_are_no_drift() -> None:
    text = pipeline.COMPILED.read_text()
    assert pipeline.same(text, "# a comment\n" + text)


def test_every_setting_is_a_parameter_with_its_type_and_the_default_preset_s_value(documents) -> None:
    declared = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert set(declared) == {*parameter_names(), "search_workers"}
    plan = Plan.from_parameters({**dict.fromkeys(PLACES, "x"), **load_preset(pipeline.DEFAULT_PRESET)})
    kinds = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", bool: "BOOLEAN"}
    for name, value in plan.parameters().items():
        assert declared[name]["parameterType"] == kinds[type(value)], name
        if name not in PLACES:
            assert declared[name]["defaultValue"] == value, name


YAML_1_1 = re.compile(r"(?i)y|yes|n|no|on|off|true|false|null|~?")  # its words for booleans and for nothing


def test_no_parameter_is_another_thing_to_who_reads_yaml_1_1_or_to_kfp_s_client(documents) -> None:
    """kubectl reads the file as YAML 1.1, to which `n` is false; `kfp run create` reads each value as JSON where it is."""
    for name, spec in documents[0]["root"]["inputDefinitions"]["parameters"].items():
        assert not YAML_1_1.fullmatch(name), name
        default = spec.get("defaultValue")
        if isinstance(default, str) and default:
            assert not YAML_1_1.fullmatch(default) and yaml.safe_load(default) == default, (name, default)
            with pytest.raises(ValueError, match="Expecting|Extra data"):
                json.loads(default)


@pytest.mark.parametrize("preset", preset_names())
def test_no_preset_s_text_is_a_number_to_kfp_s_client(preset) -> None:
    """Given to `kfp run create` one by one."""
    for name, value in load_preset(preset).items():
        if isinstance(value, str) and value:
            with pytest.raises(ValueError, match="Expecting|Extra data"):
                json.loads(value)
                pytest.fail(name)


def test_every_parameter_says_what_it_means_and_what_will_do(documents) -> None:
    declared = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert declared["search_workers"]["description"] == pipeline.WORKERS_MEANING
    for field in (*places(), *fields()):
        assert declared[field.name]["description"] == describe(field)


def test_places_are_the_clusters_own_unless_named(documents, placed) -> None:
    declared = documents[0]["root"]["inputDefinitions"]["parameters"]
    for name in PLACES:
        assert declared[name]["defaultValue"] == ""
    for step in STEPS:
        (given,) = placed[f"exec-{step}"]["configMapAsEnv"]
        assert given["optional"]
        assert {pair["envVar"] for pair in given["keyToEnv"]} == {
            "DDPM_STORE",
            "MLFLOW_TRACKING_URI",
            "DDPM_STUDY_STORAGE",
            "DDPM_PATIENCE",
            "DDPM_S3_ENDPOINT_URL",
            "DDPM_S3_DEFAULT_REGION",
            "DDPM_KFP_URL",
            "DDPM_MLFLOW_URL",
        }


def test_the_steps_are_all_there_in_the_one_image_and_install_nothing(executors) -> None:
    assert {name.removeprefix("exec-") for name in executors} == STEPS
    for executor in executors.values():
        assert executor["container"]["image"] == IMAGE == told_of_the_image(executor)
        assert "pip install" not in " ".join(executor["container"]["command"])


def told_of_the_image(executor: Any) -> str:
    """What a task hears of its image, for a version's tag."""
    return {one["name"]: one["value"] for one in executor["container"]["env"]}["DDPM_IMAGE"]


def test_no_step_is_cached(documents) -> None:
    def tasks(node: Any):
        if isinstance(node, dict):
            yield from node.get("tasks", {}).values()
            for value in node.values():
                yield from tasks(value)

    found = [task for task in tasks(documents[0]) if "cachingOptions" in task]
    names = {task["componentRef"]["name"].removeprefix("comp-") for task in found}
    assert names >= STEPS
    for task in found:
        if task["componentRef"]["name"].removeprefix("comp-") in STEPS:
            assert not task["cachingOptions"].get("enableCache")


def test_steps_that_compute_ask_for_one_gpu_and_shared_memory(executors, placed) -> None:
    for step in STEPS:
        accelerator = executors[f"exec-{step}"]["container"].get("resources", {}).get("accelerator")
        mounts = placed[f"exec-{step}"].get("emptyDirMounts", [])
        shared = [(mount["mountPath"], mount["medium"]) for mount in mounts if mount["volumeName"] != "cache"]
        if step in GPU_STEPS:
            assert accelerator["resourceType"] == "nvidia.com/gpu"
            assert accelerator["resourceCount"] == "1"
            assert shared == [("/dev/shm", "Memory")]
        else:
            assert accelerator is None
            assert shared == []


def test_every_step_runs_as_an_ordinary_user_with_optional_secrets_and_an_end(placed) -> None:
    for step in STEPS:
        facts = placed[f"exec-{step}"]
        assert facts["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert all(secret["optional"] for secret in facts["secretAsEnv"])
        assert int(facts["activeDeadlineSeconds"]) > 0


def test_the_step_that_promotes_alone_has_the_account_that_may(placed) -> None:
    given = {
        step: {
            pair["envVar"]
            for source in placed[f"exec-{step}"]["secretAsEnv"]
            if source["secretName"] == "ddpm-promote"
            for pair in source["keyToEnv"]
        }
        for step in STEPS
    }
    for step in ("promote", "promote-2"):
        assert given.pop(step) == {"DDPM_PROMOTER_USERNAME", "DDPM_PROMOTER_PASSWORD"}
    assert not any(given.values())


def test_every_step_s_cache_has_a_size_and_is_where_the_image_looks_for_it(placed) -> None:
    image = (pipeline.COMPILED.parent.parent / "docker" / "Containerfile").read_text()
    assert re.search(rf"DDPM_CACHE={pipeline.CACHE}\s", image)
    for step in STEPS:
        (cache,) = (mount for mount in placed[f"exec-{step}"]["emptyDirMounts"] if mount["volumeName"] == "cache")
        assert (cache["mountPath"], cache["sizeLimit"]) == ("/var/cache/ddpm", "32Gi")
        assert cache.get("medium", "") == "", "on the node's disk, not in its memory"


def test_every_step_is_tried_again_with_growing_pauses_and_no_attempt_is_cut_short(documents, placed) -> None:
    """Argo counts the longest duration from the first attempt's beginning, and ends what runs when it is over."""
    parts = documents[0]["components"]
    bodies = [documents[0]["root"], *(part for part in parts.values() if "dag" in part)]
    tasks = {name: task for body in bodies for name, task in body["dag"]["tasks"].items() if name in STEPS}
    assert set(tasks) == STEPS
    for step, task in tasks.items():
        policy = task["retryPolicy"]
        retries, pause, factor = policy["maxRetryCount"], seconds_of(policy["backoffDuration"]), policy["backoffFactor"]
        assert (retries, pause, factor) == (3, 60, 2.0)
        attempts = (retries + 1) * int(placed[f"exec-{step}"]["activeDeadlineSeconds"])
        pauses = sum(pause * factor**number for number in range(retries))
        assert seconds_of(policy["backoffMaxDuration"]) > attempts + pauses, step


def seconds_of(text: str) -> int:
    return int(text.removesuffix("s"))


def test_no_variable_of_a_task_is_one_that_the_launcher_reads(placed) -> None:
    """KFP's launcher shares the environment, and keeps its own artifacts where AWS_* says."""
    for step in STEPS:
        given = [
            pair["envVar"]
            for kind in ("secretAsEnv", "configMapAsEnv")
            for source in placed[f"exec-{step}"][kind]
            for pair in source["keyToEnv"]
        ]
        assert {"DDPM_S3_ACCESS_KEY_ID", "DDPM_S3_SECRET_ACCESS_KEY", "DDPM_S3_ENDPOINT_URL"} <= {*given}
        assert [name for name in given if name.startswith("AWS_")] == []
        assert len(given) == len({*given})


def test_the_exit_task_takes_the_run_s_state_and_waits_for_everything(documents) -> None:
    summarise = documents[0]["root"]["dag"]["tasks"]["summarise"]
    assert summarise["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_a_second_set_s_steps_are_skipped_where_configure_says_that_there_is_none(documents) -> None:
    """Not by the setting itself: kfp's local runner takes a path with an apostrophe for untrue."""
    body = documents[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (name,) = (name for name, task in body.items() if "condition" in task.get("triggerPolicy", {}))
    condition = " ".join(body[name]["triggerPolicy"]["condition"].split())
    assert condition == "inputs.parameter_values['pipelinechannel--configure-Output'] == 'yes'"
    assert "promote" in body[name]["dependentTasks"], "the first set comes first"
    tasks = documents[0]["components"][f"comp-{name}"]["dag"]["tasks"]
    assert set(tasks) == SECOND
    assert {task["inputs"]["artifacts"]["plan"]["componentInputArtifact"] for task in tasks.values()} == {
        "pipelinechannel--configure-second"
    }
    assert set(tasks["train-2"]["inputs"]["artifacts"]) == {"plan", "dataset"}, "it has no trials"


def test_a_second_set_s_steps_run_the_same_code(executors) -> None:
    for step in SECOND:
        again, first = (executors[f"exec-{name}"]["container"] for name in (step, step.removesuffix("-2")))
        assert again["command"] == first["command"]


def test_another_image_replaces_all(tmp_path) -> None:
    output, image = tmp_path / "ddpm.yaml", "registry.example/ddpm@sha256:" + "0" * 64
    assert pipeline.main(["--image", image, "--output", str(output)]) == 0
    spec = next(yaml.safe_load_all(output.read_text()))
    executors = spec["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}
    assert {told_of_the_image(executor) for executor in executors} == {image}


@pytest.mark.parametrize(
    "image", ["Team/ddpm", "a b:1", "r.example/ddpm@sha256:…", "https://r.example/ddpm:1", "ddpm:", ""]
)
def test_what_is_no_image_is_not_compiled_in(image) -> None:
    with pytest.raises(WrongInput, match="IMAGE: .* is no image; write REGISTRY/NAME:TAG"):
        pipeline.set_image(pipeline.COMPILED.read_text(), image)


def test_a_run_without_a_name_goes_by_one_that_no_other_has(documents):
    """The run's id: a display name may be used again, and may have spaces."""
    tasks = documents[0]["root"]["dag"]["tasks"]
    assert "pipeline_job_uuid" in str(tasks["summarise"]["inputs"]["parameters"]["run_id"])
    assert "pipeline_job_name" not in pipeline.COMPILED.read_text()
