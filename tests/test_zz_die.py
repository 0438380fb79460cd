import os, sys, time, signal
import pytest
import multiprocessing.popen_fork as pf
import diswot.scoring.engine as e
from diswot.scoring.engine import Engine
from diswot.errors import RunError
from tests.scoring.samples import SMALL, count_cost, make_context
from tests.scoring.test_engine import _die
def test_die(monkeypatch):
    old = pf.Popen._send_signal
    def send(self, sig):
        print("send", self.pid, sig, self.returncode, file=sys.__stderr__, flush=True)
        os.system(f"grep -E 'Sig|State' /proc/{self.pid}/status | tr '\\n' ' ' 1>&2; echo 1>&2")
        old(self, sig)
        time.sleep(0.5)
        os.system(f"grep -E 'Sig|State' /proc/{self.pid}/status | tr '\\n' ' ' 1>&2; echo 1>&2")
    monkeypatch.setattr(pf.Popen, "_send_signal", send)
    monkeypatch.setattr("diswot.scoring.engine._score_in_worker", _die)
    with Engine(make_context(("params",)), workers=2) as engine, pytest.raises(RunError, match=r"process died .*fewer --workers"):
        list(engine.score([SMALL], count_cost))
