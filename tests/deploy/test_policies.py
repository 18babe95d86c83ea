"""Every overlay keeps to every policy, and each policy notices the object for which it is there."""

import base64

import networks
import policies
import pytest
from processes import plain

ALL = [
    policies.is_restricted,
    policies.is_bounded,
    policies.images_are_pinned,
    policies.has_no_default_password,
    policies.references_exist,
    policies.is_probed,
    policies.services_find_pods,
    policies.budgets_and_scalers_have_targets,
    policies.rights_are_least,
    networks.policies_select_pods,
    networks.nothing_passes_unsaid,
    networks.names_can_be_asked,
    networks.quota_holds_all,
    networks.namespaces_are_ours,
]


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: policy.__name__)
def test_every_overlay_keeps_to_it(overlay, policy):
    assert policy(overlay) == []


def of(objects, kind, name):
    return next(one for one in objects if one["kind"] == kind and plain(one["metadata"]["name"]) == name)


def pod(objects, name="serve", kind="Deployment"):
    return of(objects, kind, name)["spec"]["template"]["spec"]


def container(objects, name="serve", kind="Deployment"):
    return pod(objects, name, kind)["containers"][0]


def put(holder, **values):
    holder.update(values)


def hidden(value):
    return base64.b64encode(value.encode()).decode()


BROKEN = [
    (policies.is_restricted, lambda o: pod(o)["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
    (policies.is_restricted, lambda o: put(pod(o)["securityContext"], runAsUser=0), "runAsUser"),
    (policies.is_restricted, lambda o: pod(o)["securityContext"].pop("seccompProfile"), "seccompProfile"),
    (policies.is_restricted, lambda o: pod(o).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    (policies.is_restricted, lambda o: put(pod(o), hostNetwork=True), "host"),
    (policies.is_restricted, lambda o: pod(o)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volumes"),
    (policies.is_restricted, lambda o: container(o)["securityContext"].pop("allowPrivilegeEscalation"), "allowPrivilegeEscalation"),
    (policies.is_restricted, lambda o: put(container(o)["securityContext"], readOnlyRootFilesystem=False), "readOnlyRootFilesystem"),
    (policies.is_restricted, lambda o: put(container(o)["securityContext"], capabilities={"drop": ["ALL"], "add": ["NET_RAW"]}), "capabilities"),
    (policies.is_restricted, lambda o: put(container(o)["securityContext"], privileged=True), "privileged"),
    (policies.is_restricted, lambda o: pod(o, "mlflow")["initContainers"][0].pop("securityContext"), "migrate"),
    (policies.is_bounded, lambda o: container(o)["resources"]["limits"].pop("memory"), "limits of memory"),
    (policies.is_bounded, lambda o: container(o).pop("resources"), "requests of cpu"),
    (policies.is_bounded, lambda o: put(pod(o)["volumes"][1], emptyDir={}), "sizeLimit"),
    (policies.images_are_pinned, lambda o: put(container(o), image="registry.example/ddpm-serve:latest"), "tag that stays"),
    (policies.images_are_pinned, lambda o: put(container(o), image="docker.io/library/postgres:15.18"), "has no digest"),
    (policies.images_are_pinned, lambda o: put(container(o), image="registry.example:5000/ddpm-serve"), "tag that stays"),
    (policies.images_are_pinned, lambda o: put(container(o), image="registry.example/team/ddpm-serve:0.2"), "more than one release"),
    (policies.has_no_default_password, lambda o: put(of(o, "Secret", "serve")["data"], MLFLOW_TRACKING_PASSWORD=hidden("${MLFLOW_SERVE}")), "not filled in"),
    (policies.has_no_default_password, lambda o: put(of(o, "Secret", "postgres")["data"], POSTGRES_PASSWORD=""), "not filled in"),
    (policies.has_no_default_password, lambda o: put(of(o, "Secret", "mlflow-accounts")["data"], admin=hidden("password1234")), "known to all"),
    (policies.has_no_default_password, lambda o: put(of(o, "ConfigMap", "serve")["data"], URL="http://ann:horse@mlflow"), "holds a password"),
    (policies.has_no_default_password, lambda o: container(o)["env"].append({"name": "MLFLOW_TRACKING_PASSWORD", "value": "x"}), "stands in the manifest"),
    (policies.references_exist, lambda o: o.remove(of(o, "Secret", "serve-tokens")), "no Secret serve-tokens"),
    (policies.references_exist, lambda o: of(o, "Secret", "mlflow")["data"].pop("PGPASSWORD"), "with PGPASSWORD"),
    (policies.references_exist, lambda o: o.remove(of(o, "ServiceAccount", "serve")), "no ServiceAccount"),
    (policies.references_exist, lambda o: pod(o)["volumes"].pop(1), "no volume"),
    (policies.references_exist, lambda o: put(container(o)["readinessProbe"]["httpGet"], port="web"), "which it has not"),
    (policies.is_probed, lambda o: container(o).pop("readinessProbe"), "no readinessProbe"),
    (policies.services_find_pods, lambda o: put(of(o, "Service", "mlflow")["spec"]["selector"], **{"app.kubernetes.io/name": "x"}), "selects no pod"),
    (policies.services_find_pods, lambda o: put(of(o, "Service", "mlflow")["spec"]["ports"][0], targetPort="web"), "no port"),
    (policies.budgets_and_scalers_have_targets, lambda o: o.remove(of(o, "Deployment", "serve")), "selects no pod"),
    (policies.budgets_and_scalers_have_targets, lambda o: put(of(o, "PodDisruptionBudget", "serve")["spec"], maxUnavailable=0), "no node can be emptied"),
    (policies.budgets_and_scalers_have_targets, lambda o: put(of(o, "HorizontalPodAutoscaler", "serve")["spec"]["scaleTargetRef"], name="x"), "not there"),
    (policies.budgets_and_scalers_have_targets, lambda o: put(of(o, "Deployment", "serve")["spec"], replicas=2), "sets replicas"),
    (policies.rights_are_least, lambda o: of(o, "Role", "operator")["rules"][0]["resources"].append("secrets"), "secrets"),
    (policies.rights_are_least, lambda o: put(of(o, "Role", "operator")["rules"][0], verbs=["*"]), "*"),
    (policies.rights_are_least, lambda o: put(of(o, "RoleBinding", "operators")["subjects"][0], kind="ServiceAccount"), "needs no right"),
    (policies.rights_are_least, lambda o: put(of(o, "RoleBinding", "operators")["roleRef"], name="x"), "there is no Role"),
    (policies.rights_are_least, lambda o: of(o, "ServiceAccount", "serve").pop("automountServiceAccountToken"), "mounts its token"),
    (networks.policies_select_pods, lambda o: o.remove(of(o, "Deployment", "serve")), "selects no pod"),
    (networks.policies_select_pods, lambda o: put(of(o, "NetworkPolicy", "mlflow")["spec"]["ingress"][0]["ports"][0], port=5001), "does not listen"),
    (networks.policies_select_pods, lambda o: of(o, "NetworkPolicy", "mlflow")["spec"]["ingress"][0].pop("from"), "lets everybody in"),
    (networks.nothing_passes_unsaid, lambda o: [o.remove(of(o, "NetworkPolicy", name)) for name in ("nothing-else", "serve")], "nothing closes Ingress"),
    (networks.names_can_be_asked, lambda o: o.remove(of(o, "NetworkPolicy", "names")), "cannot ask for names"),
    (networks.quota_holds_all, lambda o: put(of(o, "HorizontalPodAutoscaler", "serve")["spec"], maxReplicas=30), "is asked for"),
    (networks.quota_holds_all, lambda o: put(container(o)["resources"]["limits"], memory="64Gi"), "above"),
    (networks.namespaces_are_ours, lambda o: put(of(o, "Deployment", "serve")["metadata"], namespace="default"), "is in default"),
    (networks.namespaces_are_ours, lambda o: put(of(o, "ConfigMap", "serve")["metadata"], namespace="kubeflow"), "is in kubeflow"),
    (networks.namespaces_are_ours, lambda o: of(o, "Namespace", "ddpm")["metadata"]["labels"].clear(), "not restricted"),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "harm", "said"), BROKEN, ids=[f"{one.__name__}: {said}" for one, _, said in BROKEN])
def test_a_broken_object_is_noticed(dev, policy, harm, said):
    harm(dev)
    assert said in "; ".join(policy(dev))


def test_no_policy_is_without_an_object_that_it_notices():
    assert {policy for policy, _, _ in BROKEN} == set(ALL)
