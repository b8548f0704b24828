open("/work/tmp/audit14/RAN", "w").write("x")


class Part:
    pass
