#!/bin/sh
# Serves the files of the data folder, as -WWW does from where it is started.
cd "$2/data" && exec openssl s_server -accept "127.0.0.1:$1" -cert ../cert.pem -key ../key.pem -WWW -quiet
