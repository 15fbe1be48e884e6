"use strict";
Ranvier.runs = {show() {}};
