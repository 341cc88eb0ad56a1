# SPDX-License-Identifier: MIT
def why_not():
    return "not there"
