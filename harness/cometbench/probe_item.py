"""A probe in the rounds: one process a turn, several measurements in the end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyperf

from cometbench.latency import summarise_histograms
from cometbench.model import LatencySummary, Measurement, Sample, Verification
from cometbench.probe import Probe
from cometbench.round_item import Place, RoundItem, Workplace, process_kind


class ProbeItem(RoundItem):
    """Samples by the name of the value, the last verification and facts."""

    def __init__(self, probe: Probe, workplace: Workplace) -> None:
        super().__init__(probe, workplace)
        self.probe = probe
        self._samples: dict[str, list[Sample]] = {value: [] for value in probe.values}
        self._verification = Verification(status="not_applicable")
        self._extra: dict[str, float | str] = {}
        self._arrays: dict[str, npt.NDArray[np.uint64]] = {}
        self._flame_graphs: dict[str, str] = {}
        self._file_system = workplace.file_system
        self._histograms: dict[str, list[str]] = {}

    def rounds_done(self) -> set[int]:
        """Return the rounds that have a sample of every value."""
        return set.intersection(*({sample.round for sample in samples} for samples in self._samples.values()))

    def restore(self, stored: Mapping[str, Measurement], raw: Mapping[str, list[pyperf.Run]]) -> None:
        """Take up the samples of all values, where none failed."""
        del raw
        found = [stored.get(name) for name in self.probe.measurement_names()]
        sound = [one for one in found if one is not None and one.failure is None]
        if len(sound) < len(found):
            return
        self._samples = {
            value: list(one.samples) for value, one in zip(self.probe.values, sound, strict=True)
        }
        self._histograms = {
            value: list(one.latency.histograms)
            for value, one in zip(self.probe.values, sound, strict=True)
            if one.latency is not None
        }
        self._verification, self._extra = sound[0].verification, dict(sound[0].extra)
        self._file_system = sound[0].file_system

    def measure(self, round_number: int, order: int) -> None:
        """Run the probe's function once."""
        profile = self.workplace.profile
        serving = self.workplace.services.serving(self.probe.service)
        with self.workplace.place() as place, serving as served:
            arguments = [
                *("--spec", self.probe.configured(served).to_json(), "--directory", str(place.bench)),
                *("--seed", str(self.workplace.seed + round_number), "--outcome", str(place.outcome)),
                *("--seconds", str(profile.probe_seconds * self.probe.seconds)),
            ]
            self.workplace.run("cometbench.probe_worker", arguments, place, fresh=self.probe.fresh)
            self._keep(place, round_number, order)

    def _keep(self, place: Place, round_number: int, order: int) -> None:
        outcome = place.read_outcome()
        finding = outcome["finding"]
        before = self._verification
        self._verification = Verification(
            status=finding["status"],
            entries_expected=before.entries_expected + finding["entries_expected"],
            entries_found=before.entries_found + finding["entries_found"],
            detail=finding["detail"],
        )
        if finding["status"] == "failed":
            self.failure = f"verification failed: {finding['detail']}"
            return
        for value, number in outcome["values"].items():
            self._samples[value].append(Sample(round=round_number, order=order, values=[number]))
        for value, text in outcome["histograms"].items():
            self._histograms.setdefault(value, []).append(text)
        self._extra.update(outcome["extra"])
        self._flame_graphs.update(outcome["flame_graphs"])
        self._file_system = outcome["file_system"] or self._file_system
        for name in outcome["arrays"]:
            raw = place.outcome.with_name(f"array-{name}").read_bytes()
            self._arrays[f"{self.name}.{name}.round{round_number}"] = np.frombuffer(raw, dtype=np.uint64)

    def measurements(self) -> list[Measurement]:
        """One measurement per value."""
        probe = self.probe
        extra = {**self._extra, "process": process_kind(probe), "rounds_wanted": float(self.rounds_wanted)}
        return [
            Measurement(
                name=name,
                experiment=probe.experiment,
                subject=probe.subject,
                workload=probe.workload,
                batch=probe.batch,
                processes=probe.processes,
                metric=value,
                unit=unit,
                durability=probe.durability,  # type: ignore[arg-type]
                file_system=self._file_system,
                config=dict(probe.config),
                code_hash="" if self.failure else probe.code_hash(),
                samples=self._samples[value],
                verification=self._verification,
                failure=self.failure,
                latency=self._latency(value),
                extra=extra,
            )
            for name, (value, unit) in zip(probe.measurement_names(), probe.values.items(), strict=True)
            if self._samples[value] or self.failure
        ]

    def _latency(self, value: str) -> LatencySummary | None:
        histograms = self._histograms.get(value)
        if not histograms or self.failure:
            return None
        return summarise_histograms(histograms, float(self._extra.get("timer_overhead_ns", 0.0)))

    def arrays(self) -> Mapping[str, npt.NDArray[np.uint64]]:
        """Raw samples of every round."""
        return self._arrays

    def flame_graphs(self) -> Mapping[str, str]:
        """Flame graphs by file name, of the last round that drew them."""
        return self._flame_graphs
