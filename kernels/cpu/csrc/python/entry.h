// One call that was checked: what it is compared with, and what runs it. See front.cpp.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <initializer_list>

namespace {

constexpr Py_ssize_t MOST_TENSORS = 11, MOST_ARGUMENTS = 32, SLOTS = 64;
enum Kind { CALLABLE, CONV, DEPTHWISE, POOL, LENET };  // kernels/cpu/front.py: KINDS

// What `configure` was given.
struct {
    PyObject *backend, *automatic;  // a ContextVar, and the value under which this path is chosen
    PyObject *forward_ad, *native;  // modules
    PyObject *function_mode, *dispatch_modes, *transforms;     // functions of torch's
    PyObject *grad_enabled, *threads, *empty;
    PyObject *tensor, *parameter;                              // types
} torchs;

PyObject *s_is_cpu, *s_shape, *s_data_ptr, *s_level, *s_kernels, *s_relu;

struct Entry {
    PyObject_HEAD
    PyObject *check, *numbers, *kernels;        // TensorGuards.check; the numbers of the call; native.KERNELS
    PyObject* quick;                            // of the first tensor alone, where torch's own operator runs; or null
    PyObject *action, *extra;                   // called with the tensors and these, where there is no kernel
    PyObject *plan, *shape, *stride, *dtype;    // of a kernel: kept alive; its result
    long absent, grad, threads, kind, relu;     // bit i: tensor i is None; grad mode asked, -1 any
    void *function, *address;                   // of a kernel, and of its plan
};

// Equal in value and in type: 1 is not True, and a list, which can change, equals nothing.
bool same(PyObject* a, PyObject* b) {
    if (Py_TYPE(a) != Py_TYPE(b)) return false;
    if (PyTuple_CheckExact(a)) {
        Py_ssize_t n = PyTuple_GET_SIZE(a);
        if (PyTuple_GET_SIZE(b) != n) return false;
        for (Py_ssize_t i = 0; i < n; i++)
            if (!same(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
        return true;
    }
    if (PyLong_CheckExact(a) || PyUnicode_CheckExact(a)) return a == b || PyObject_RichCompareBool(a, b, Py_EQ) == 1;
    return a == b && (a == Py_None || PyBool_Check(a));
}

// function() as a truth value; -1 on error.
int truth(PyObject* function) {
    PyObject* result = PyObject_CallNoArgs(function);
    if (!result) return -1;
    int is = PyObject_IsTrue(result);
    Py_DECREF(result);
    return is;
}

bool automatic() {
    PyObject* value = nullptr;
    if (PyContextVar_Get(torchs.backend, torchs.automatic, &value) < 0 || !value) return false;
    bool is = value == torchs.automatic || same(value, torchs.automatic);
    Py_DECREF(value);
    return is;
}

// What no tensor's dispatch keys show: modes, transforms, forward-mode differentiation.
bool calm() {
    for (PyObject* active : {torchs.function_mode, torchs.dispatch_modes, torchs.transforms})
        if (truth(active) != 0) return false;
    PyObject* level = PyObject_GetAttr(torchs.forward_ad, s_level);
    bool none = level && PyLong_AsLong(level) < 0 && !PyErr_Occurred();
    Py_XDECREF(level);
    return none;
}

// Whether native.KERNELS and the number of threads are those of the entry.
bool unchanged(Entry* e) {
    PyObject* now = PyObject_GetAttr(torchs.native, s_kernels);
    bool current = now == e->kernels;
    Py_XDECREF(now);
    PyObject* threads = current ? PyObject_CallNoArgs(torchs.threads) : nullptr;
    bool as_many = threads && PyLong_AsLong(threads) == e->threads;
    Py_XDECREF(threads);
    return as_many;
}

// Whether the call is the entry's. `again`: it came with this second tensor before.
bool fits(Entry* e, PyObject* const* args, Py_ssize_t tensors, PyObject* const* given, Py_ssize_t count, long absent,
          bool again) {
    if (e->absent != absent) return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(e->numbers); i++)
        if (!same(PyTuple_GET_ITEM(e->numbers, i), args[tensors + i])) return false;
    if (e->grad >= 0 && truth(torchs.grad_enabled) != e->grad) return false;
    if (!e->quick && !(calm() && unchanged(e))) return false;
    PyObject* passed = e->quick && again ? PyObject_CallOneArg(e->quick, given[0])
                                         : PyObject_Vectorcall(e->check, given, size_t(count), nullptr);
    bool is = passed == Py_True;
    Py_XDECREF(passed);
    return is;
}

// Where a tensor's elements lie; null with an error set on failure, and null for None.
void* elements(PyObject* tensor) {
    if (tensor == Py_None) return nullptr;
    PyObject* number = PyObject_CallMethodNoArgs(tensor, s_data_ptr);
    if (!number) return nullptr;
    void* found = PyLong_AsVoidPtr(number);
    Py_DECREF(number);
    return found;
}

PyObject* run_kernel(Entry* e, PyObject* const* args, Py_ssize_t tensors) {
    PyObject* given[] = {e->shape, e->stride, e->dtype};
    PyObject* y = PyObject_Vectorcall(torchs.empty, given, 3, nullptr);
    if (!y) return nullptr;
    void *at[MOST_TENSORS] = {}, *to = elements(y);
    for (Py_ssize_t i = 0; i < tensors; i++) at[i] = elements(args[i]);
    if (PyErr_Occurred()) {
        Py_DECREF(y);
        return nullptr;
    }
    typedef int Three(void*, void*, void*, void*);
    typedef int Five(void*, void*, void*, void*, void*);
    typedef int Six(void*, void*, void*, void*, void*, void*);
    int status = -1;
    Py_BEGIN_ALLOW_THREADS;
    switch (e->kind) {
        case CONV:
            status = reinterpret_cast<Six*>(e->function)(e->address, at[0], at[1], at[2], to, nullptr);
            break;
        case DEPTHWISE:
            status = reinterpret_cast<Five*>(e->function)(e->address, at[0], at[1], at[2], to);
            break;
        case POOL:
            status = reinterpret_cast<Three*>(e->function)(e->address, at[0], to, nullptr);
            break;
        case LENET:
            status = reinterpret_cast<Six*>(e->function)(e->address, at[0], at + 1, to, nullptr, nullptr);
    }
    Py_END_ALLOW_THREADS;
    if (status) {
        Py_DECREF(y);
        PyErr_SetString(PyExc_MemoryError, "the CPU kernels found no memory for their scratch space");
        return nullptr;
    }
    return y;
}

PyObject* run(Entry* e, PyObject* const* args, Py_ssize_t tensors) {
    if (e->kind != CALLABLE) return run_kernel(e, args, tensors);
    PyObject* all[MOST_ARGUMENTS];
    Py_ssize_t more = PyTuple_GET_SIZE(e->extra);
    for (Py_ssize_t i = 0; i < tensors; i++) all[i] = args[i];
    for (Py_ssize_t i = 0; i < more; i++) all[tensors + i] = PyTuple_GET_ITEM(e->extra, i);
    PyObject* y = PyObject_Vectorcall(e->action, all, size_t(tensors + more), nullptr);
    if (!y || !e->relu) return y;
    PyObject* after = PyObject_CallMethodNoArgs(y, s_relu);
    Py_DECREF(y);
    return after;
}

}  // namespace
