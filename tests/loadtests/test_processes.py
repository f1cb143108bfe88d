"""Reading /proc, on files made up for it and on a real process."""

import subprocess
import sys
from pathlib import Path

from loadtests.processes import TICKS_PER_S, cpu_s, descendants, peak_rss_mib, reset_peak_rss


def test_cpu_is_user_and_system_time_whatever_the_name_of_the_process(tmp_path: Path) -> None:
    """A name may hold spaces and brackets; fields are counted from the last bracket."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0\n")
    assert cpu_s([7], tmp_path) == 300 / TICKS_PER_S


def test_nanoseconds_of_all_threads_count_unless_threads_have_ended(tmp_path: Path) -> None:
    """A server that took 4 us for each of 1,000 requests took 4 ms: no tick. Ended threads are in the ticks alone."""
    for thread, spent in (("7", "3000000 5 2"), ("8", "1000000 5 2")):
        (tmp_path / "7" / "task" / thread).mkdir(parents=True)
        (tmp_path / "7" / "task" / thread / "schedstat").write_text(spent)
    stat = tmp_path / "7" / "stat"
    stat.write_text("7 (a) S 1 7 7 0 -1 4194304 100 0 0 0 0 0 9 9 20 0 1 0\n")
    assert cpu_s([7], tmp_path) == 0.004
    stat.write_text("7 (a) S 1 7 7 0 -1 4194304 100 0 0 0 30 20 9 9 20 0 1 0\n")
    assert cpu_s([7], tmp_path) == 50 / TICKS_PER_S


def test_a_process_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    """It may end between two looks."""
    assert (cpu_s([7], tmp_path), peak_rss_mib([7], tmp_path)) == (0.0, 0.0)


def test_peaks_are_summed(tmp_path: Path) -> None:
    """VmHWM is in KiB."""
    for pid in ("7", "8"):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "status").write_text("Name:\tx\nVmHWM:\t    3072 kB\nVmRSS:\t 1 kB\n")
    assert peak_rss_mib([7, 8], tmp_path) == 6.0


def test_real_processes_are_found_with_their_children_cpu_and_peak() -> None:
    """A child of a child burns CPU and takes 50 MiB for a moment; after a reset the peak is what it holds now."""
    inner = "x = b'z' * 50_000_000; del x; sum(range(3_000_000)); print('done', flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        parent, child = descendants(process.pid)
        assert parent == process.pid
        assert 0.02 <= cpu_s([child]) <= 10.0
        assert peak_rss_mib([child]) >= 50.0
        reset_peak_rss([child])
        assert peak_rss_mib([child]) < 50.0
        process.communicate(b"\n")
