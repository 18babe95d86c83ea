"""The digest that a report carries."""

from ddpm.evaluation.report import Report, is_sealed, seal


def test_what_a_step_adds_to_a_report_breaks_no_seal_and_an_edited_figure_does():
    names = [*Report.__annotations__]
    added = [*names[names.index("subject") :], "seconds"]
    measured = {"fid": 1.0, "kid": 0.1}
    report = {**measured, "sha256": seal(measured), **dict.fromkeys(added, "said later")}
    assert is_sealed(report)
    assert not is_sealed({**report, "fid": 0.5})
    assert not is_sealed({**report, "precision": 1.0})
    unsealed = {name: value for name, value in report.items() if name != "sha256"}
    assert is_sealed(unsealed), "as an earlier release's"
    assert not is_sealed({**unsealed, "noise": None}), "which had no such field"
