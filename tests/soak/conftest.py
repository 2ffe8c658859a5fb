"""Sizes of the long campaigns."""


def pytest_addoption(parser):
    group = parser.getgroup("soak")
    group.addoption("--seeds", type=int, default=50, help="random schedules of each campaign")
    group.addoption("--first-seed", type=int, default=0, help="where the seeds start")
    group.addoption("--sets", help="rendered sets to damage, as data/raw has them (the default)")


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--first-seed", default=0)
        count = metafunc.config.getoption("--seeds", default=1)
        metafunc.parametrize("seed", range(first, first + count))
