"""The loop of a search: candidates are bred from the trials before them, scored, and written down as trials."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap

import numpy as np

from diswot.architecture import Architecture
from diswot.config import SearchConfig
from diswot.errors import ArchitectureError, RunError, first_line
from diswot.progress import Detail, Forecast, Reporter, sparkline
from diswot.runs import RunDir
from diswot.scoring.candidates import ScoreResult
from diswot.scoring.engine import Engine
from diswot.scoring.recipe import input_digests, is_number_list
from diswot.searching.history import History, ScoredTrials
from diswot.searching.latencies import read_latencies, write_latency
from diswot.searching.pareto import FrontMember, find_front
from diswot.searching.proposals import TriedForms
from diswot.searching.setup import SearchSetup
from diswot.searching.trial import JOURNAL, Trial, Trials, read_trials

logger = logging.getLogger(__name__)
_FEW = 3  # parts of a ranking that a line of progress has room for
_GROWTH = 500  # a long history is ranked anew when it has grown by one part in so many


def bred_after(index: int, size: int, asynchronous: bool) -> int:
    """Return how many trials there must be before a candidate is bred.

    A generation of `size` candidates is bred when all before it are scored. An asynchronous search keeps `size` candidates under way: one
    is bred as soon as another one is scored, so candidate i sees the first i - size + 1 lines of the journal, whichever these are.

    >>> [bred_after(index, 4, False) for index in (0, 3, 4, 9)]
    [0, 0, 4, 8]
    >>> [bred_after(index, 4, True) for index in (0, 3, 4, 9)]
    [0, 0, 1, 6]
    """
    return max(0, index - size + 1) if asynchronous else index - index % size


def ranked_history(length: int, size: int) -> int:
    """Return how many of these trials a candidate's parents are chosen from. In a long search the last two in a thousand are left out: to
    rank them all anew each time takes a while.

    Args:
        length: trials before the candidate was bred.
        size: trials that come together: a generation, or one in an asynchronous search.

    >>> [ranked_history(length, 1) for length in (0, 499, 1234)], [ranked_history(length, 16) for length in (7984, 100_000)]
    ([0, 499, 1233], [7984, 99840])
    """
    steps = length // size
    return length - length % size - steps % (1 + steps // _GROWTH) * size


@dataclass(frozen=True)
class Proposal:
    """A candidate that has been bred: its number, and its parent, None for a random one."""

    index: int
    arch: Architecture
    parent: Architecture | None


def _millions(number: int) -> str:
    return f"{number / 1e6:.3g}M"


class Search(SearchSetup):
    """A search under way. It is a function of its journal: whatever was bred is bred again from the same lines.

    Args:
        config: the options.
        device: where the teacher is observed and latency measured.
        run: where the journal is kept, or None.
        reporter: shown the progress.

    Attributes:
        trials: in the order of the journal.
        scored: those that have scores.
    """

    def __init__(self, config: SearchConfig, device: str, run: RunDir | None, reporter: Reporter) -> None:
        super().__init__(config, device)
        self._run, self._reporter = run, reporter
        self.trials = Trials(self.space.name)
        costs = len(config.pareto_costs)
        self.scored = ScoredTrials(self.ranking, len(self.ranking.parts), lambda place: self.trials[place].arch, costs)
        self._seen = TriedForms()
        self._bred = 0
        self._known: dict[int, Trial] = {}  # by index, of the journal, until the search comes to where they were bred
        self._pending: dict[int, Proposal] = {}  # by the number that the engine knows them by
        self._exhausted = False
        if run is not None:
            inputs = input_digests(config, self.context, self.space.name, config.strategy)
            run.check_inputs("inputs.json", {**inputs, **self.feasibility.digests()})
            self._take_over(read_trials(run, self.space.name, repair=True))
        self._keep_latencies(run)

    def run(self, engine: Engine) -> None:
        """Score candidates until there are as many as were asked for, or nothing is left to try."""
        self._reporter.start(self.config.iterations, len(self.trials), "candidate")
        self._reporter.within("scoring the first candidates")
        if (slots := engine.slots) > self.config.generation_size:
            logger.warning(
                "at most %s of %s workers have work at a time: a larger --generation-size keeps more of them busy",
                *(self.config.generation_size, slots),
            )
        scored: dict[int, Trial] = {}
        forecast = Forecast(self.config.iterations, "candidate")
        while True:
            self._breed(engine)
            if not self._pending:
                break
            completed = engine.completed()
            scored |= {trial.index: trial for trial in starmap(self._trial, completed)}
            self._write(self._in_order(scored))
            for _, result in completed:
                forecast.note_cost(sum(result.seconds.values()))  # evolution goes to the upper end of the budget
            if line := forecast.line(len(self.trials)):
                logger.info("%s; %s", line, engine.describe_cost())
        if self._run is not None:
            self._run.sync(JOURNAL)
        self._reporter.stop()
        if self._exhausted:
            self._log_exhausted()

    def front(self) -> list[FrontMember]:
        """The front of all trials, from the cheapest to the dearest; nothing where a single winner is looked for."""
        if not self.config.pareto_costs:
            return []
        return find_front(self.scored.history(), lambda number: self.trials[self.scored.place(number)])

    def best(self) -> Trial:
        """The fittest of all trials, the earliest of equals.

        Raises:
            RunError: none has a score.
        """
        history = self.scored.history()
        if not len(history):
            reason = self.trials[0].reason if self.trials else "none was scored"
            raise RunError(f"no candidate could be scored; the first failed with: {reason}")
        return self._fittest(history)

    def _keep_latencies(self, run: RunDir | None) -> None:
        """Have what is measured kept in the run, so that a resume on a busier machine decides nothing otherwise."""
        if run is None or self.feasibility.table is not None:
            self.feasibility.check_fast_enough()
            return
        kept = read_latencies(run, self.space.name)
        self.feasibility.latencies |= kept
        self.feasibility.check_fast_enough()  # before anything is written
        for arch, ms in self.feasibility.latencies.items():
            if arch not in kept:
                write_latency(run, arch, ms)
        self.feasibility.on_measured = partial(write_latency, run)

    def _take_over(self, trials: Sequence[Trial]) -> None:
        """Take over the trials of the journal; what was under way when it was cut off is bred again when the search comes to it."""
        for number, trial in enumerate(trials):
            self._check(number, trial)
            self._known[trial.index] = trial
            self._note(trial)
        self.feasibility.remember(trials)

    def _check(self, number: int, trial: Trial) -> None:
        """Refuse a line of a journal that is not this search's."""
        fault = f"{self._run.path / JOURNAL if self._run else JOURNAL}, line {number + 1}: "
        if self.config.asynchronous:
            if trial.index in self._known or not 0 <= trial.index < number + self.config.generation_size:
                raise RunError(f"{fault}trial {trial.index}, which was not under way: start a new run")
        elif trial.index != number:
            raise RunError(f"{fault}trial {trial.index} where {number} belongs: start a new run")
        try:
            self.space.check(trial.arch)
        except ArchitectureError as error:
            raise RunError(f"{fault}{first_line(error)}: start a new run") from None
        if trial.complete and not all(is_number_list(trial.scores.get(name), len(self.context.batches)) for name in self.ranking.parts):
            raise RunError(f"{fault}its scores are not those of this search: start a new run")

    def _breed(self, engine: Engine) -> None:
        """Breed every candidate whose history is there, and hand it to the engine.

        Each is bred from a prefix of the journal by a generator of its own, so a resumed search breeds what the undisturbed one would have.
        """
        config = self.config
        while not self._exhausted and self._bred < config.iterations:
            index, after = self._bred, bred_after(self._bred, config.generation_size, config.asynchronous)
            if after > len(self.trials):
                return
            if (known := self._known.pop(index, None)) is not None:
                self._seen.add(self.space.canonical(known.arch))
            elif (proposal := self._propose(index, after)) is not None:
                self._seen.add(self.space.canonical(proposal.arch))
                if "latency" in self.config.pareto_costs:
                    self.feasibility.latency(proposal.arch)
                self._pending[engine.add(proposal.arch, self.feasibility.cost(proposal.arch))] = proposal
            else:
                self._exhausted = True
                return
            self._bred += 1

    def _propose(self, index: int, after: int) -> Proposal | None:
        size = 1 if self.config.asynchronous else self.config.generation_size
        history = self.scored.history(ranked_history(after, size))
        found = self.proposer.propose(history, after, self._seen, np.random.default_rng([self.config.seed, index]))
        if found is None and not len(self._seen):
            raise self.feasibility.nothing_found()
        return None if found is None else Proposal(index, *found)

    def _trial(self, number: int, result: ScoreResult) -> Trial:
        """What came of a candidate."""
        proposal = self._pending.pop(number)
        parent = proposal.parent.digest if proposal.parent is not None else None
        latency = self.feasibility.latencies.get(proposal.arch)
        return Trial(proposal.index, proposal.arch, result.cost, result.scores, result.reason, parent, latency)

    def _in_order(self, scored: dict[int, Trial]) -> list[Trial]:
        """Take the trials that can be written down now: those that all before them are written of; in an asynchronous search all."""
        if self.config.asynchronous:
            trials = list(scored.values())
            scored.clear()
            return trials
        trials = []
        while (trial := scored.pop(len(self.trials) + len(trials), None)) is not None:
            trials.append(trial)
        return trials

    def _write(self, trials: Sequence[Trial]) -> None:
        if not trials:
            return
        if self._run is not None:
            self._run.append(JOURNAL, *(trial.record() for trial in trials), sync=False)
        before = len(self.trials)
        for trial in trials:
            self._note(trial)
        if self._run is not None and len(self.trials) // self.config.generation_size > before // self.config.generation_size:
            self._run.sync(JOURNAL)  # before the next generation is bred
        self._reporter.update(len(self.trials), self._detail)

    def _note(self, trial: Trial) -> None:
        self.trials.append(trial)
        known = {"params": trial.cost.params, "flops": trial.cost.flops, "latency": trial.latency}
        self.scored.append(self.means(trial), [float(known[name] or 0.0) for name in self.config.pareto_costs])

    def _fittest(self, history: History) -> Trial:
        return self.trials[self.scored.place(int(np.argmax(history.fitness)))]

    def _detail(self) -> Detail:
        """The best of what the last candidates were bred from, for progress: to rank all anew for it would take too long."""
        history = self.scored.last() or self.scored.history()
        outside = f"{self.feasibility.rejected:,} outside of the budget"
        if not history:
            return Detail("no candidate scored yet", [("passed", f"over {outside}")])
        best, parts = self._fittest(history), self.ranking.parts
        scores = [f"{name} {np.mean(best.scores[name]):.4g}" for name in parts] if len(parts) <= _FEW else []
        scores = scores or [f"score {history.fitness.max():.4g}"]
        line = f"best {_millions(best.cost.params)} params, {_millions(best.cost.flops)} FLOPs, {', '.join(scores)}"
        rows = [("best", f"{line.removeprefix('best ')}, candidate {best.index + 1}")]
        rows.append(("scores", f"{sparkline(history.fitness.tolist())} first to last"))
        return Detail(f"{line}; {outside}", [*rows, ("passed", f"over {outside}")])

    def _log_exhausted(self) -> None:
        """Say that nothing is left to try."""
        every = "all" if self.space.enumerate() is not None else "no network that has not been scored was found;"
        logger.info("the space is exhausted: %s %s different networks within the budget have been scored", every, len(self.trials))
