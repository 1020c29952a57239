"""Aligned columns: what df, ps, sar, vmstat, kubectl and a web server print is read without a flag."""

import numpy as np
import pytest

from onlineguard.sources import Choices, Source
from onlineguard.sources.aligned import awaits_rows
from onlineguard.sources.looking import look
from tests.support.reading import internals, rows, set_aside

DF = """\
Filesystem      1K-blocks     Used Available Use% Mounted on
/dev/vda        264212084 33684464  72706448  32% /
tmpfs            24684096     2604  24681492   1% /dev/shm
"""
DF_H = """\
Filesystem      Size  Used Avail Use% Mounted on
/dev/vda        252G   33G   70G  32% /
tmpfs            24G  2.6M   24G   1% /dev/shm
none               0     0     0    - /proc
"""
PS = """\
USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND
root           1  0.4  0.0  54784 20328 ?        SLl  09:18   2:06 /sbin/init --quiet
postgres   71234 12.5  3.1 994784 90328 ?        Ssl  09:19  12:06 postgres: checkpointer
www          998  0.0  0.2   4784  2328 pts/0    S    09:20   0:00 sh -c "echo 1; sleep 9"
"""
SAR = """\
Linux 5.15.0-91-generic (web-1) \t11/29/2026 \t_x86_64_\t(2 CPU)

11:40:01 AM     CPU     %user     %nice   %system     %idle
11:50:01 AM     all      5.22      0.00      1.14     93.64
12:00:01 PM     all      6.22      0.00      1.24     92.54

12:00:01 PM     CPU     %user     %nice   %system     %idle
12:10:01 PM     all      5.32      0.00      1.44     93.24
Average:        all      5.59      0.00      1.27     93.14

11:40:01 AM kbmemfree kbmemused  %memused kbbuffers  kbcached
11:50:01 AM   1234567   7654321     86.11     12345    345678
"""
VMSTAT = """\
procs -----memory---- ---swap-- -----timestamp-----
 r  b   swpd   free   si   so                 UTC
 3  0      0 169019    0    0 2026-11-29 16:45:48
12  1      0 169020    0    0 2026-11-29 16:45:49
procs -----memory---- ---swap-- -----timestamp-----
 r  b   swpd   free   si   so                 UTC
 2  0      0 169021    0    0 2026-11-29 16:45:50
"""
IOSTAT = """\
avg-cpu:  %user   %nice %system   %idle
           5.22    0.00    1.14   93.64
           6.22    0.00    1.24   92.54
"""
FREE = """\
               total        used        free
Mem:        24684096     1166792    16846940
Swap:           4096           0        4096
"""
TOP = """\
top - 16:45:48 up  7:27,  0 user,  load average: 0.62, 1.69, 2.61
Tasks: 120 total,   1 running, 119 sleeping,   0 stopped,   0 zombie

    PID USER      PR    VIRT S  %CPU     TIME+ COMMAND
      1 root      20   54784 S   0.4   2:06.11 init
  71234 www       20   94784 R  99.4   0:06.11 python 3

top - 16:45:51 up  7:27,  0 user,  load average: 0.62, 1.69, 2.61

    PID USER      PR    VIRT S  %CPU     TIME+ COMMAND
      1 root      20   54784 S   0.5   2:06.12 init
"""
KUBECTL_TOP = """\
NAME                     CPU(cores)   MEMORY(bytes)
api-7d9c5b9f4d-abcde     250m         512Mi
db-0                     1100m        2048Mi
"""
KUBECTL_PODS = """\
NAME    READY   STATUS    RESTARTS       AGE
api-1   1/1     Running   0              5d
api-2   1/1     Running   3              2d
db-0    0/1     Pending   1 (20h ago)    30d
db-1    1/1     Running   7              30d
"""
DOCKER = """\
CONTAINER ID   IMAGE     COMMAND         CREATED       PORTS                    NAMES
1f2e3d4c5b6a   redis:7   "redis -p 1"    2 hours ago   0.0.0.0:6379->6379/tcp   redis
2f2e3d4c5b6a   web       "python a.py"   3 hours ago                            web
"""
ACCESS_LOG = """\
203.0.113.9 - - [10/Oct/2026:13:55:36 +0000] "GET /a HTTP/1.1" 200 2326 "-" "Mozilla/5.0 (X11; Linux) Web/5"
203.0.113.8 - bob [10/Oct/2026:13:55:37 +0000] "GET /b HTTP/1.1" 404 - "http://x/" "curl/8.0"
203.0.113.7 - - [10/Oct/2026:13:55:39 +0000] "POST /a HTTP/1.1" 500 12 "-" "Mozilla/5.0 (X11) Web/5"
"""
GERMAN_SAR = """\
Linux 5.15.0 (web-1) \t29.11.2026 \t_x86_64_\t(2 CPU)

23:40:01        CPU     %user   %system
23:50:01        all      5,22      1,14
23:59:01        all     16,22      1,24
"""
SAR_PAST_MIDNIGHT = """\
Linux 5.15.0-91-generic (web-1) \t12/31/2026 \t_x86_64_\t(2 CPU)

11:40:01 PM     CPU     %user     %idle
11:50:01 PM     all      5.22     93.64
12:00:01 AM     all      6.22     92.54

12:10:01 AM     CPU     %user     %idle
01:00:01 AM     all      7.22     91.54
12:50:01 AM     all      5.32     93.24
Average:        all      5.59     93.14
Linux 5.15.0-92-generic (web-1) \t01/04/2027 \t_x86_64_\t(4 CPU)

12:00:01 AM     CPU     %user     %idle
12:10:01 AM     all      4.22     94.64
11:50:01 PM     all      4.32     94.54
"""
FRENCH_SAR = """\
Linux 5.15.0 (web-1) \t07/08/2026 \t_x86_64_\t(2 CPU)

23:40:01        CPU     %user   %system
23:50:01        all      5,22      1,14
00:00:01        all     16,22      1,24
"""
NAN = float("nan")
# text: features, their numbers, the time and slice columns, times, and how many lines are set aside
TABLES = {
    "df": (
        DF,
        ["1K-blocks", "Used", "Available", "Use%"],
        [[264212084, 33684464, 72706448, 0.32], [24684096, 2604, 24681492, 0.01]],
        None,
        ("Mounted on", ["/", "/dev/shm"]),
        [],
        0,
    ),
    "df -h": (
        DF_H,
        ["Size", "Used", "Avail", "Use%"],
        [
            [252 * 2.0**30, 33 * 2.0**30, 70 * 2.0**30, 0.32],
            [24 * 2.0**30, 2.6 * 2.0**20, 24 * 2.0**30, 0.01],
            [0, 0, 0, NAN],
        ],
        None,
        ("Filesystem", ["/dev/vda", "tmpfs", "none"]),
        [],
        0,
    ),
    "ps aux": (
        PS,
        ["PID", "%CPU", "%MEM", "VSZ", "RSS"],
        [[1, 0.4, 0, 54784, 20328], [71234, 12.5, 3.1, 994784, 90328], [998, 0, 0.2, 4784, 2328]],
        None,
        ("COMMAND", ["/sbin/init --quiet", "postgres: checkpointer", 'sh -c "echo 1; sleep 9"']),
        [],
        0,
    ),
    "sar": (
        SAR,
        ["%user", "%nice", "%system", "%idle"],
        [[5.22, 0, 1.14, 93.64], [6.22, 0, 1.24, 92.54], [5.32, 0, 1.44, 93.24]],
        "time",
        ("CPU", ["all"] * 3),
        ["2026-11-29T11:50:01", "2026-11-29T12:00:01", "2026-11-29T12:10:01"],
        3,
    ),
    "sar in Germany": (
        GERMAN_SAR,
        ["%user", "%system"],
        [[5.22, 1.14], [16.22, 1.24]],
        "time",
        ("CPU", ["all"] * 2),
        ["2026-11-29T23:50:01", "2026-11-29T23:59:01"],
        0,
    ),
    "sar past midnight, and another day": (  # also a clock that was put back for winter
        SAR_PAST_MIDNIGHT,
        ["%user", "%idle"],
        [[5.22, 93.64], [6.22, 92.54], [7.22, 91.54], [5.32, 93.24], [4.22, 94.64], [4.32, 94.54]],
        "time",
        ("CPU", ["all"] * 6),
        [
            *("2026-12-31T23:50:01", "2027-01-01T00:00:01", "2027-01-01T01:00:01", "2027-01-01T00:50:01"),
            *("2027-01-04T00:10:01", "2027-01-04T23:50:01"),
        ],
        1,
    ),
    "sar past midnight in France": (
        FRENCH_SAR,
        ["%user", "%system"],
        [[5.22, 1.14], [16.22, 1.24]],
        "time",
        ("CPU", ["all"] * 2),
        ["2026-08-07T23:50:01", "2026-08-08T00:00:01"],
        0,
    ),
    "vmstat -t": (
        VMSTAT,
        ["r", "b", "swpd", "free", "si", "so"],
        [[3, 0, 0, 169019, 0, 0], [12, 1, 0, 169020, 0, 0], [2, 0, 0, 169021, 0, 0]],
        "UTC",
        None,
        ["2026-11-29T16:45:48", "2026-11-29T16:45:49", "2026-11-29T16:45:50"],
        0,
    ),
    "iostat": (
        IOSTAT,
        ["%user", "%nice", "%system", "%idle"],
        [[5.22, 0, 1.14, 93.64], [6.22, 0, 1.24, 92.54]],
        None,
        None,
        [],
        0,
    ),
    "free": (
        FREE,
        ["total", "used", "free"],
        [[24684096, 1166792, 16846940], [4096, 0, 4096]],
        None,
        ("column_1", ["Mem:", "Swap:"]),
        [],
        0,
    ),
    "top -b": (
        TOP,
        ["PID", "PR", "VIRT", "%CPU"],
        [[1, 20, 54784, 0.4], [71234, 20, 94784, 99.4], [1, 20, 54784, 0.5]],
        None,
        ("COMMAND", ["init", "python 3", "init"]),
        [],
        1,  # the title of the second table
    ),
    "kubectl top": (
        KUBECTL_TOP,
        ["CPU(cores)", "MEMORY(bytes)"],
        [[0.25, 512 * 2.0**20], [1.1, 2.0**31]],
        None,
        ("NAME", ["api-7d9c5b9f4d-abcde", "db-0"]),
        [],
        0,
    ),
    "kubectl get pods": (
        KUBECTL_PODS,
        ["RESTARTS"],
        [[0], [3], [NAN], [7]],
        None,
        ("NAME", ["api-1", "api-2", "db-0", "db-1"]),
        [],
        0,
    ),
    "access log": (
        ACCESS_LOG,
        ["column_6", "column_7"],
        [[200, 2326], [404, NAN], [500, 12]],
        "column_4",
        ("column_5", ["GET /a HTTP/1.1", "GET /b HTTP/1.1", "POST /a HTTP/1.1"]),
        ["2026-10-10T13:55:36", "2026-10-10T13:55:37", "2026-10-10T13:55:39"],
        0,
    ),
}


@pytest.mark.parametrize("block", [4 << 20, 7], ids=["whole", "7 bytes at a time"])
@pytest.mark.parametrize("name", TABLES)
def test_what_is_printed_for_the_eye_is_read_right_without_a_flag(tmp_path, name, block):
    text, features, numbers, time, keys, times, aside = TABLES[name]
    path = tmp_path / "e.txt"
    path.write_text(text)
    with internals({"blocks.BLOCK_BYTES": block}):
        read = Source(path, [keys[0]] if keys else [], None, time)
        batches = list(read)
    assert read.feature_columns == features
    np.testing.assert_array_equal(np.concatenate([batch.X for batch in batches]), np.array(numbers, np.float32))
    assert [key for batch in batches for key in batch.slices] == (keys[1] if keys else ["all"] * len(numbers))
    seen = [t for batch in batches if batch.times is not None for t in batch.times.tolist()]
    assert seen == np.array(times, "datetime64[us]").astype(np.int64).tolist()
    assert read.rejected == aside
    assert "columns aligned by blanks" in read.described


def test_a_time_format_that_is_given_says_which_number_of_a_title_is_the_day(tmp_path):
    path = tmp_path / "e.txt"
    path.write_text(FRENCH_SAR.replace(",", "."))
    found = [
        next(iter(Source(path, [], ["%user"], "time", choices=Choices(time_format=said)))).times.view("M8[us]").tolist()
        for said in (None, "%d/%m/%Y %H:%M:%S")
    ]
    assert [(times[0].month, times[1].day) for times in found] == [(7, 9), (8, 8)]


def test_columns_go_by_their_places_where_fields_are_empty_or_have_blanks(tmp_path):
    path = tmp_path / "e.txt"
    path.write_text(DOCKER)
    found = look(str(path))
    assert {name: cells.to_list() for name, cells in found.sample.items()} == {
        "CONTAINER ID": ["1f2e3d4c5b6a", "2f2e3d4c5b6a"],
        "IMAGE": ["redis:7", "web"],
        "COMMAND": ['"redis -p 1"', '"python a.py"'],
        "CREATED": ["2 hours ago", "3 hours ago"],
        "PORTS": ["0.0.0.0:6379->6379/tcp", ""],
        "NAMES": ["redis", "web"],
    }


def test_what_is_not_of_the_table_is_set_aside_with_its_line(tmp_path):
    path = tmp_path / "e.txt"
    path.write_text(SAR)
    read = Source(path, [], ["%user"], "time")
    assert [line for *_, line in rows(read)] == [4, 5, 8]
    assert [(record["line"], record["text"].split()[0]) for record in set_aside(read)] == [
        (9, "Average:"),
        (11, "11:40:01"),
        (12, "11:50:01"),
    ]


def test_names_that_come_twice_are_numbered(tmp_path):
    path = tmp_path / "e.txt"
    path.write_text("face  bytes  errs  bytes  errs\n  lo    100     0    200     1\neth0    300     0    400     2\n")
    read = Source(path, ["face"], None)
    assert [x for _, x, *_ in rows(read)] == [(100, 0, 200, 1), (300, 0, 400, 2)]
    assert read.feature_columns == ["bytes", "errs", "bytes_2", "errs_2"]


@pytest.mark.parametrize("delimiter", [" ", "blanks"])
def test_blanks_may_be_named_as_the_delimiter(tmp_path, delimiter):
    path = tmp_path / "e.csv"
    path.write_text("host    load;x\na,b       1.5\nc     2.5\n")
    read = Source(path, ["host"], ["load;x"], choices=Choices(delimiter=delimiter))
    assert [(key, x) for key, x, *_ in rows(read)] == [("a,b", (1.5,)), ("c", (2.5,))]


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("at,load\n2026-11-29 10:00:00,1\n2026-11-29 10:00:01,2\n", "commas"),
        ("load, share\n1, 2\n3, 4\n", "commas"),
        ("host,cpu,odd\na,1,0\n1,1, 1 ,1\n1, 1 ,1\n", "commas"),
        ("host\tload\na b\t1\nc d\t2\n", "tabs"),
        ("umsatz\n1 234\n5 678\n", "commas"),
        ("note\nthe first 1\nanother one 2 3\nand 4\n", "commas"),
        ('a b,1,"x, y"\nc d,2,"z"\n', "commas"),
    ],
)
def test_blanks_in_fields_align_nothing(tmp_path, text, described):
    path = tmp_path / "e.txt"
    path.write_text(text)
    assert f"{described} between fields" in look(str(path)).described


def test_a_table_is_followed_line_by_line(tmp_path):
    path = tmp_path / "e.log"
    path.write_text("\n".join(SAR.split("\n")[:5]) + "\n")
    batches = iter(Source(path, ["CPU"], ["%user"], "time", follow=True))
    assert next(batches).X.tolist() == [[np.float32(5.22)], [np.float32(6.22)]]
    with path.open("a") as more:
        more.write("12:20:01 PM     all      7.25      0.00      1.14     91.61\n")
    assert next(batches).X.tolist() == [[7.25]]
    batches.close()


@pytest.mark.parametrize(
    ("head", "awaits"),
    [
        ("Linux 5.15 (web-1) \t11/29/26\n\n", True),
        ("procs ----memory----\n r  b   swpd\n", True),
        ("r b swpd\n1 0 12\n", False),
        ("x\n1\n", False),
        ("host,load\na,1\n", False),
        ('{"x": 1}\n', False),
        ("web-1    1.5\n", False),
    ],
)
def test_only_titles_and_a_header_make_a_followed_text_wait_for_more(head, awaits):
    assert awaits_rows(head) == awaits
