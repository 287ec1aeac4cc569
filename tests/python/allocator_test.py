"""The published allocator (test_python, test_allocator): entries of many requests by address."""

import contextlib
import ctypes
import os
import pathlib
import threading

import numpy as np
import pytest

import cxlspeckv as kv

SHAPE = {"num_tokens": 32, "num_layers": 3, "num_heads": 2, "head_dim": 64, "bytes_per_element": 2}
ENTRY = 64 * 2
DEVICE = "soft:?size=8M"


@pytest.fixture
def library():
    return str(pathlib.Path(kv.__file__).with_name("libcxlspeckv.so.0"))


def write(allocator, place, value):
    ctypes.memset(allocator.get_kv_ptr(*place, ENTRY), value, ENTRY)


def read(allocator, place):
    return set(ctypes.string_at(allocator.get_kv_ptr(*place, ENTRY), ENTRY))


def every_place(request):
    return [(request, layer, head, pos, kind) for layer in range(3) for head in range(2)
            for pos in (0, 1, 31) for kind in (0, 1)]


def test_many_requests_each_have_their_entries(library):
    """D38: a lookup that works for the first request only."""
    with kv.CxlSpeckvKVAllocator(library, DEVICE, 4096) as allocator:
        requests = (0, 5, 1 << 31)
        handles = [allocator.allocate(**SHAPE) for _ in requests]
        assert len(set(handles)) == 3
        places = [place for request in requests for place in every_place(request)]
        for number, place in enumerate(places):
            write(allocator, place, number % 251 + 1)
        for number, place in enumerate(places):
            assert read(allocator, place) == {number % 251 + 1}


def test_entries_do_not_overlap(library):
    """Every entry of a request holds a value of its own."""
    with kv.CxlSpeckvKVAllocator(library, DEVICE) as allocator:
        allocator.allocate(4, 2, 3, 2, 4)
        places = [(1, layer, head, pos, kind) for layer in range(2) for head in range(3)
                  for pos in range(4) for kind in range(2)]
        for number, place in enumerate(places):
            ctypes.memmove(allocator.get_kv_ptr(*place, 8), number.to_bytes(8, "little"), 8)
        for number, place in enumerate(places):
            got = ctypes.string_at(allocator.get_kv_ptr(*place, 8), 8)
            assert int.from_bytes(got, "little") == number


def test_many_instances(library):
    """D36: a second instance that fails. Equal devices are shared, others are apart."""
    first = kv.CxlSpeckvKVAllocator(library, DEVICE)
    second = kv.CxlSpeckvKVAllocator(library, DEVICE)
    other = kv.CxlSpeckvKVAllocator(library, "soft:?size=4M")
    third = kv.CxlSpeckvKVAllocator(library, "soft:?size=5M")
    everyone = (first, second, other, third)
    for allocator in everyone:
        allocator.allocate(**SHAPE, req_id=0)
    for value, allocator in enumerate(everyone, 1):
        write(allocator, (0, 0, 0, 0, 0), value)
    assert [read(a, (0, 0, 0, 0, 0)) for a in everyone] == [{1}, {2}, {3}, {4}]
    first.close()
    assert read(second, (0, 0, 0, 0, 0)) == {2}
    with pytest.raises(kv.InvalidArgument, match="closed"):
        first.allocate(**SHAPE)
    again = kv.CxlSpeckvKVAllocator(library, DEVICE)
    again.allocate(**SHAPE)
    for allocator in (second, other, third, again):
        allocator.close()
        allocator.close()


def test_threads_share_an_allocator(library):
    """Requests of their own, which come and go."""
    wrong = []

    def work(allocator, request):
        try:
            for turn in range(20):
                allocator.allocate(**SHAPE, req_id=request)
                value = (31 * request + turn) % 251 + 1
                for place in every_place(request):
                    write(allocator, place, value)
                assert all(read(allocator, place) == {value} for place in every_place(request))
                with contextlib.suppress(kv.Busy):  # its queue is full
                    allocator.prefetch_step(request, 0, 5, [1, 2], 2)
                allocator.release(request)
        except BaseException as error:
            wrong.append(error)

    with kv.CxlSpeckvKVAllocator(library, DEVICE) as allocator:
        threads = [threading.Thread(target=work, args=(allocator, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_devices_that_come_and_go_leave_no_descriptors(library):
    def once():
        with kv.CxlSpeckvKVAllocator(library, DEVICE) as allocator:
            allocator.allocate(**SHAPE)
        return len(os.listdir("/proc/self/fd"))

    once()
    assert once() == once() == once()


def test_capacity_is_shared_and_given_back(library):
    megabyte = {"num_tokens": 1024, "num_layers": 1, "num_heads": 8, "head_dim": 64,
                "bytes_per_element": 1}
    with (kv.CxlSpeckvKVAllocator(library, DEVICE) as first,
          kv.CxlSpeckvKVAllocator(library, DEVICE) as second):
        for request in range(4):
            first.allocate(**megabyte, req_id=request)
        for request in range(4):
            second.allocate(**megabyte, req_id=request)
        with pytest.raises(kv.NoSpace):
            first.allocate(**megabyte)
        second.release(2)
        first.allocate(**megabyte, req_id=9)


def test_memory_is_rounded_up_to_pages(library):
    with kv.CxlSpeckvKVAllocator(library, DEVICE, 1 << 22) as allocator:
        allocator.allocate(1, 1, 1, 1, 1)
        allocator.allocate(1, 1, 1, 1, 1)
        with pytest.raises(kv.NoSpace):
            allocator.allocate(1, 1, 1, 1, 1)


def test_prefetch_steps(library):
    with kv.CxlSpeckvKVAllocator(library, DEVICE) as allocator:
        allocator.allocate(**SHAPE)
        write(allocator, (3, 0, 0, 0, 0), 1)
        for layer in range(3):
            allocator.prefetch_step(3, layer, 5, [1, 2, 3, 4], 4)
        for bad in ((3, 3, 5, [1], 4), (3, 0, 32, [1], 4), (3, 0, 5, [], 4), (3, 0, 5, [1], 0),
                    (3, 0, 5, [1], 17), (4, 0, 5, [1], 4)):
            with pytest.raises(kv.InvalidArgument):
                allocator.prefetch_step(*bad)


def test_refusals(library, tmp_path):
    with pytest.raises(kv.DeviceError):
        kv.CxlSpeckvKVAllocator(library, "nowhere:")
    with pytest.raises(kv.InvalidArgument, match="cannot be loaded"):
        kv.CxlSpeckvKVAllocator(tmp_path / "none.so", DEVICE)
    with pytest.raises(kv.InvalidArgument, match="speckv_init"):
        kv.CxlSpeckvKVAllocator(foreign_library(), DEVICE)
    with pytest.raises(kv.InvalidArgument, match="power of two"):
        kv.CxlSpeckvKVAllocator(library, DEVICE, 100)
    with kv.CxlSpeckvKVAllocator(library, DEVICE) as allocator:
        with pytest.raises(kv.InvalidArgument, match="at least 1"):
            allocator.allocate(0, 1, 1, 1, 1)
        with pytest.raises(kv.InvalidArgument, match="allocate"):
            allocator.get_kv_ptr(0, 0, 0, 0, 0, ENTRY)
        allocator.allocate(**SHAPE, req_id=0)
        with pytest.raises(kv.InvalidArgument, match="already"):
            allocator.allocate(**SHAPE, req_id=0)
        for bad in ((0, 3, 0, 0, 0, ENTRY), (0, 0, 2, 0, 0, ENTRY), (0, 0, 0, 32, 0, ENTRY),
                    (0, 0, 0, 0, 2, ENTRY), (0, 0, 0, -1, 0, ENTRY), (0, 0, 0, 0, 0, ENTRY + 1)):
            with pytest.raises(kv.InvalidArgument):
                allocator.get_kv_ptr(*bad)


def foreign_library():
    """A library that is not ours."""
    maps = pathlib.Path("/proc/self/maps").read_text(encoding="utf-8")
    return next(line.split()[-1] for line in maps.splitlines() if "/libc.so.6" in line)


def test_the_default_library_is_the_one_of_the_package():
    with kv.CxlSpeckvKVAllocator(dev_path=DEVICE) as allocator:
        allocator.allocate(**SHAPE)
        write(allocator, (0, 0, 0, 0, 0), 9)
        values = np.ctypeslib.as_array((ctypes.c_uint8 * ENTRY).from_address(
            allocator.get_kv_ptr(0, 0, 0, 0, 0, ENTRY)))
        assert (values == 9).all()
