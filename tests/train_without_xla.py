"""train.py in graphs alone, for tests that start it: XLA would compile for as long as they take."""

import train
from conftest import replaced_compile

import tfp_dvbf
from tfp_dvbf.experiments import command_line

if __name__ == "__main__":
    tfp_dvbf.DVBF.compile = replaced_compile({"jit_compile": False})
    command_line.run(train.main, train.Args)
