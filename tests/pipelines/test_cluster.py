"""What the tasks ask of a cluster's nodes: each field of a cluster's file in the compiled one, and what is refused."""

import json

import pytest
import yaml

from ddpm.errors import WrongInput
from ddpm.steps.trainjob import Nodes
from pipelines import pipeline
from pipelines.cluster import cluster_names, load_cluster

TRAINING, MEASURING = {"search", "train", "train-2"}, {"evaluate", "promote", "evaluate-2", "promote-2"}
GPU = TRAINING | MEASURING
CPU = {"configure", "ingest", "register", "ingest-2", "register-2", "summarise"}
MINE = {
    "cpu": {"cpu_request": "500m", "cpu_limit": 2, "memory_request": "2Gi", "memory_limit": "6Gi", "cache": "20Gi",
            "node_selector": {"pool": "cpu"}, "image_pull_secrets": ["registry", "mirror"]},
    "gpu": {"accelerator": "amd.com/gpu", "accelerators": 2, "cpu_request": "6", "cpu_limit": "12", "memory_request": "24Gi",
            "memory_limit": "48Gi", "shared_memory": "4Gi", "cache": "100Gi",
            "node_selector": {"pool": "gpu", "cloud.example/gpu": "a100"},
            "tolerations": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"},
                            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
            "labels": {"kueue.x-k8s.io/queue-name": "team"}, "annotations": {"sidecar.istio.io/inject": "false"}},
}  # fmt: skip


def file_of(folder, facts):
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(facts))
    return str(path)


def parts(text):
    """By step: the container, and what is asked of Kubernetes besides."""
    spec, platform = yaml.safe_load_all(text)
    containers = spec["deploymentSpec"]["executors"]
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): (facts["container"], placed[name]) for name, facts in containers.items()}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    return parts(pipeline.compiled(cluster=file_of(tmp_path_factory.mktemp("cluster"), MINE)))


@pytest.fixture(scope="module")
def default():
    return parts(pipeline.COMPILED.read_text())


def resources(container):
    kept = ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit")
    return tuple(container["resources"][name] for name in kept)


def variables(container):
    """What a task is told, but for its image, which each is."""
    told = {one["name"]: one["value"] for one in container.get("env", [])}
    return {name: value for name, value in told.items() if name != "DDPM_IMAGE"}


def test_every_task_has_requests_and_limits_for_a_quota_refuses_pods_without(default):
    assert set(default) == CPU | GPU
    for step, (container, _) in default.items():
        asked = ("4", "8", "16Gi", "32Gi") if step in GPU else ("1", "4", "4Gi", "16Gi")
        assert resources(container) == asked, step


def test_processors_and_memory(mine):
    for step, (container, _) in mine.items():
        asked = ("6", "12", "24Gi", "48Gi") if step in GPU else ("500m", "2", "2Gi", "6Gi")
        assert resources(container) == asked, step


def test_accelerators_and_how_many_of_them(mine):
    for step, (container, _) in mine.items():
        accelerator = container["resources"].get("accelerator")
        if step in CPU:
            assert accelerator is None
        else:
            assert accelerator["resourceType"] == "amd.com/gpu"
            assert accelerator["resourceCount"] == ("2" if step in TRAINING else "1"), "one process measures"


def test_more_than_one_accelerator_is_as_many_processes(mine, default):
    mine, default = (
        {
            step: {one["name"]: one["value"] for one in container["env"]}.get("DDPM_PROCESSES")
            for step, (container, _) in placed.items()
        }
        for placed in (mine, default)
    )
    assert {step for step, told in mine.items() if told == "2"} == TRAINING
    assert {step for step, told in mine.items() if not told} == CPU | MEASURING
    assert not any(default.values()), "and one is as it was"


def test_node_selectors(mine, default):
    for step, (_, placed) in mine.items():
        selected = {"pool": "gpu", "cloud.example/gpu": "a100"} if step in GPU else {"pool": "cpu"}
        assert placed["nodeSelector"]["labels"] == selected
    assert not [step for step, (_, placed) in default.items() if "nodeSelector" in placed]


def test_tolerations(mine):
    for step, (_, placed) in mine.items():
        expected = [
            {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "60"},
        ]
        assert placed.get("tolerations", []) == (expected if step in GPU else [])


def test_labels_and_annotations(mine):
    for step, (_, placed) in mine.items():
        metadata = placed.get("podMetadata", {})
        assert metadata.get("labels", {}) == ({"kueue.x-k8s.io/queue-name": "team"} if step in GPU else {})
        assert metadata.get("annotations", {}) == ({"sidecar.istio.io/inject": "false"} if step in GPU else {})


def test_image_pull_secrets(mine):
    for step, (_, placed) in mine.items():
        names = [secret["secretName"] for secret in placed.get("imagePullSecret", [])]
        assert names == ([] if step in GPU else ["registry", "mirror"])


def test_cache_and_shared_memory(mine):
    for step, (_, placed) in mine.items():
        mounts = {mount["mountPath"]: mount for mount in placed["emptyDirMounts"]}
        assert mounts["/var/cache/ddpm"]["sizeLimit"] == ("100Gi" if step in GPU else "20Gi")
        if step in GPU:
            assert (mounts["/dev/shm"]["sizeLimit"], mounts["/dev/shm"]["medium"]) == ("4Gi", "Memory")
        else:
            assert set(mounts) == {"/var/cache/ddpm"}


def test_the_final_training_may_ask_for_something_else(tmp_path, default):
    """On one node, its task has that; search keeps what gpu says."""
    found = parts(pipeline.compiled(cluster=file_of(tmp_path, {"train": {"accelerators": 4, "memory_limit": "64Gi"}})))
    container, placed = found.pop("train")
    assert found.pop("train-2") == (container, placed), "on a second set as on the first"
    assert container["resources"]["accelerator"]["resourceCount"] == "4"
    assert resources(container) == ("4", "8", "16Gi", "64Gi"), "the rest is as gpu says"
    assert variables(container) == {"DDPM_PROCESSES": "4"}
    assert variables(found["configure"][0]) == {"DDPM_TRAINING_PROCESSES": "4"}
    found["configure"][0]["env"] = default["configure"][0]["env"]
    assert found == {step: facts for step, facts in default.items() if step not in ("train", "train-2")}
    assert placed == default["train"][1]


def test_on_several_nodes_its_task_only_makes_a_trainjob_and_needs_no_gpu(default):
    """The exit task is told of it too, for it ends what a killed step has left; all else is as on one node."""
    one, several = (parts(pipeline.compiled(cluster=name)) for name in ("gpu-4", "gpu-2x8"))
    container, placed = several["train"]
    assert container["resources"] == one["summarise"][0]["resources"] and "accelerator" not in container["resources"]
    own = {"activeDeadlineSeconds": placed["activeDeadlineSeconds"]}
    assert placed == one["summarise"][1] | own, "as a small step's, but for its time"
    told = {step: variables(container) for step, (container, _) in several.items()}
    assert set(told["train"]) == set(told["summarise"]) == {"DDPM_TRAINJOB"} and several["train-2"] == several["train"]
    assert told.pop("configure") == {"DDPM_TRAINING_PROCESSES": "16"}, "which looks whether they can share a batch"
    assert variables(one["configure"][0]) == {"DDPM_SEARCH_PROCESSES": "4", "DDPM_TRAINING_PROCESSES": "4"}
    assert not [step for step, env in told.items() if env and step not in ("train", "train-2", "summarise")]
    nodes = Nodes(**json.loads(told["train"]["DDPM_TRAINJOB"]))
    assert told["train"] == told["summarise"]
    assert (nodes.count, nodes.processes, nodes.threads, nodes.runtime) == (2, 8, 8, "ddpm")
    assert nodes.seconds == 72 * 3600, "a step's own time, of which Kubernetes knows by itself"
    assert nodes.resources["limits"] == {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": "8"}
    assert "{{" not in told["train"]["DDPM_TRAINJOB"], "which Argo would take for a variable of its own"
    assert set(several) == set(default)


def test_without_accelerators_none_is_asked_for():
    assert [step for step, (container, _) in parts(pipeline.compiled(cluster="cpu")).items()
            if "accelerator" in container["resources"]] == []  # fmt: skip


@pytest.mark.parametrize("name", cluster_names())
def test_every_file_of_ours_can_be_used(name):
    cluster = load_cluster(name)
    assert cluster.gpu.memory_limit and cluster.cpu.accelerators == 0


def test_the_command_takes_a_name_or_a_path_and_refuses_others(tmp_path, capsys):
    output = tmp_path / "ddpm.yaml"
    assert pipeline.main(["--cluster", "gpu-4", "--output", str(output)]) == 0
    container, placed = parts(output.read_text())["train"]
    assert container["resources"]["accelerator"]["resourceCount"] == "4"
    assert placed["tolerations"][0]["key"] == "nvidia.com/gpu"
    output.unlink()
    assert pipeline.main(["--cluster", "gpu-5", "--output", str(output)]) == 2
    assert capsys.readouterr().err == (
        "CLUSTER: there is neither a file 'gpu-5' nor a cluster of that name; there are cpu, default, gpu-2x8, gpu-4 (did you mean gpu-4?)\n"
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"gpus": {}}, "gpus: there is no such kind of steps; there are cpu, gpu"),
        ({"gpu": []}, "gpu: [] will not do"),
        ({"gpu": {"nodes": 2}}, "gpu.nodes: there is no such field"),
        ({"train": {"nodes": 0}}, "train.nodes: 0 will not do; write how many, from 1 to 64"),
        ({"train": {"nodes": "2"}}, "train.nodes: '2' will not do"),
        ({"train": {"node": 2}}, "train.node: there is no such field"),
        ({"train": {"runtime": "my runtime"}}, "train.runtime: 'my runtime' is no name of an object"),
        ({"train": {"memory_limit": "8Gi"}}, "train.memory_request: 16Gi is more than memory_limit, which is 8Gi"),
        ([1], "will not do; write it as"),
        ({"gpu": {"memory": "1Gi"}}, "gpu.memory: there is no such field"),
        ({"gpu": {"memory_limits": "64Gi"}}, "gpu.memory_limits: there is no such field (did you mean memory_limit?)"),
        ({"gpu": {"memory_limit": "64GB"}}, "gpu.memory_limit: '64GB' will not do; write memory, as in 16Gi"),
        ({"gpu": {"memory_limit": "0Gi"}}, "gpu.memory_limit: '0Gi' will not do"),
        ({"gpu": {"memory_limit": ""}}, "gpu.memory_limit: '' will not do"),
        ({"gpu": {"memory_limit": True}}, "gpu.memory_limit: True will not do"),
        ({"gpu": {"cpu_limit": "four"}}, 'gpu.cpu_limit: \'four\' will not do; write processors, as in "4" or 500m'),
        ({"gpu": {"cpu_limit": "2"}}, "gpu.cpu_request: 4 is more than cpu_limit, which is 2"),
        ({"gpu": {"memory_request": "64Gi"}}, "gpu.memory_request: 64Gi is more than memory_limit, which is 32Gi"),
        ({"gpu": {"shared_memory": "32Gi"}}, "gpu.shared_memory: 32Gi counts into memory_limit, 32Gi, and must be less"),
        ({"gpu": {"accelerators": "2"}}, "gpu.accelerators: '2' will not do; write how many"),
        ({"gpu": {"accelerators": True}}, "gpu.accelerators: True will not do"),
        ({"gpu": {"accelerator": "an A100"}}, "gpu.accelerator: 'an A100' is no name of a resource"),
        ({"gpu": {"node_selector": {"gpu": True}}}, 'gpu.node_selector.gpu: True is no text; put it in quotes'),
        ({"gpu": {"node_selector": ["a"]}}, "gpu.node_selector: ['a'] will not do"),
        ({"gpu": {"labels": {"team": "a b"}}}, "gpu.labels.team: 'a b' is no value of a label; write at most 63 letters"),
        ({"cpu": {"labels": {"team": "a" * 64}}}, "is no value of a label"),
        ({"train": {"labels": {"team": "a-"}}}, "train.labels.team: 'a-' is no value of a label"),
        ({"gpu": {"labels": {"team": "a\n"}}}, "is no value of a label"),
        ({"gpu": {"node_selector": {"pool": "a/b"}}}, "gpu.node_selector.pool: 'a/b' is no value of a label"),
        ({"gpu": {"tolerations": [{"key": "a", "value": "b c"}]}}, "gpu.tolerations[0].value: 'b c' is no value of a label"),
        ({"gpu": {"tolerations": [{"key": "a b", "value": "c"}]}}, "gpu.tolerations[0].key: 'a b' is no name of a taint"),
        ({"gpu": {"tolerations": {"key": "a"}}}, "gpu.tolerations: "),
        ({"gpu": {"tolerations": [{"keys": "a"}]}}, "gpu.tolerations[0].keys: there is no such field"),
        ({"gpu": {"tolerations": [{"key": "a", "value": True}]}}, "gpu.tolerations[0].value: True is no text"),
        ({"gpu": {"tolerations": [{"key": "a", "effect": "Never"}]}}, "gpu.tolerations[0].effect: 'Never' is none of"),
        ({"gpu": {"tolerations": [{"key": "a", "operator": "In"}]}}, "gpu.tolerations[0].operator: 'In'"),
        ({"gpu": {"tolerations": [{"value": "a"}]}}, "without a key its operator must be Exists"),
        ({"gpu": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}}, "with Exists there is none"),
        ({"gpu": {"image_pull_secrets": "registry"}}, "gpu.image_pull_secrets: 'registry' will not do; write the Secrets' names"),
        ({"gpu": {"priority_class": "high"}}, "gpu.priority_class: KFP 2.17's file has no place for it"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_one_line(tmp_path, facts, words):
    with pytest.raises(WrongInput) as refused:
        load_cluster(file_of(tmp_path, facts))
    assert str(refused.value).startswith("CLUSTER: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_kubernetes_takes_for_a_value_is_taken(tmp_path):
    """Of a label, nothing too; of an annotation, any words."""
    labels, annotations = {"a": "", "b": "x" * 63, "c": "A.b_c-9"}, {"d": "any words, {and: signs}"}
    cluster = load_cluster(
        file_of(tmp_path, {"gpu": {"labels": labels, "node_selector": labels, "annotations": annotations}})
    )
    assert (cluster.gpu.labels, cluster.gpu.node_selector, cluster.gpu.annotations) == (labels, labels, annotations)


def test_a_file_that_is_no_yaml_is_one_line(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("gpu: {")
    with pytest.raises(WrongInput, match="cannot be read as YAML"):
        load_cluster(str(path))
