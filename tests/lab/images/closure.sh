# shellcheck shell=sh
# take DIRECTORY PROGRAM...: copy programs to ./DIRECTORY with the libraries that they need.
take() {
    directory=$1
    shift
    mkdir -p "./$directory"
    for program; do
        cp -L "$program" "./$directory/"
        libraries "$program"
    done
}

# libraries FILE...: copy what the dynamic linker loads for them, where it looks for it.
libraries() {
    for file; do
        ldd "$file" | grep -o '/[^ )]*' | while read -r library; do
            mkdir -p ".$(dirname "$library")"
            [ -e ".$library" ] || cp -L "$library" ".$library"
        done
    done
}
