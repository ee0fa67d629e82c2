// The front of a public function: a call that was checked once is recognised and run without Python in between.
//
// An Entry is such a call: which tensors (by torch's own TensorGuards: type, dispatch keys, dtype, sizes, strides,
// requires_grad), which numbers, grad mode and threads; and what runs it: a compiled kernel, or a callable. A Front
// finds the entry by the second tensor's address, else by shapes and numbers, and compares everything anew each time;
// it holds no tensor, so nothing can go stale. It answers None for a call that it does not know, or while a mode,
// transform or other backend is in force: then kernels/cpu decides. Costs 0.6 us, where the same in Python costs 4.
//
// An entry that runs torch's own operator (`quick`) is right for any tensors in any mode, so it asks less: with a second
// tensor seen before, the first tensor and the numbers tell whether the choice still holds. 0.2 us.
//
// CPython's C API only: nothing of torch is compiled against. Everything runs under the GIL but the kernels.
#include "entry.h"

#include <structmember.h>

#include <cstddef>

namespace {

struct Front {
    PyObject_HEAD
    vectorcallfunc call;
    Py_ssize_t tensors, arguments;
    PyObject* entries;  // (shapes, numbers) -> list of Entry
    PyObject *slot[SLOTS], *seen[SLOTS];  // an entry, and the second tensor (an address only) it came with
};

// (shape of the first tensor, of the second if there is one, numbers...); null with an error set on failure.
PyObject* key_of(Front* f, PyObject* const* args) {
    Py_ssize_t shapes = f->tensors > 1 ? 2 : 1, numbers = f->arguments - f->tensors;
    PyObject* key = PyTuple_New(shapes + numbers);
    if (!key) return nullptr;
    for (Py_ssize_t i = 0; i < shapes; i++) {
        PyObject* shape = args[i] == Py_None ? Py_NewRef(Py_None) : PyObject_GetAttr(args[i], s_shape);
        if (!shape) {
            Py_DECREF(key);
            return nullptr;
        }
        PyTuple_SET_ITEM(key, i, shape);
    }
    for (Py_ssize_t i = 0; i < numbers; i++) PyTuple_SET_ITEM(key, shapes + i, Py_NewRef(args[f->tensors + i]));
    return key;
}

// The entries kept for calls like this, borrowed; null where there are none.
PyObject* kept(Front* f, PyObject* const* args) {
    PyObject *key = key_of(f, args), *list = nullptr;
    if (key) list = PyDict_GetItemWithError(f->entries, key);
    Py_XDECREF(key);
    PyErr_Clear();  // an argument without a hash is one that was never kept
    return list;
}

PyObject* call_front(PyObject* self, PyObject* const* args, size_t flags, PyObject* keywords) {
    Front* f = reinterpret_cast<Front*>(self);
    if (PyVectorcall_NARGS(flags) != f->arguments || keywords) Py_RETURN_NONE;
    PyObject* given[MOST_TENSORS];
    Py_ssize_t count = 0;
    long absent = 0;
    for (Py_ssize_t i = 0; i < f->tensors; i++) {
        PyTypeObject* type = Py_TYPE(args[i]);
        if (reinterpret_cast<PyObject*>(type) == torchs.tensor || reinterpret_cast<PyObject*>(type) == torchs.parameter)
            given[count++] = args[i];
        else if (i && args[i] == Py_None)
            absent |= 1L << i;
        else
            Py_RETURN_NONE;
    }
    if (!automatic()) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject* second = f->tensors > 1 ? args[1] : nullptr;
    size_t place = (reinterpret_cast<uintptr_t>(second) >> 5) % SLOTS;
    PyObject* found = f->seen[place] == second ? f->slot[place] : nullptr;
    Py_XINCREF(found);
    if (found && !fits(reinterpret_cast<Entry*>(found), args, f->tensors, given, count, absent, true)) {
        Py_CLEAR(found);
        PyErr_Clear();
    }
    if (!found) {
        PyObject* is_cpu = PyObject_GetAttr(args[0], s_is_cpu);
        Py_XDECREF(is_cpu);  // True and False live on
        PyErr_Clear();
        if (is_cpu != Py_True) Py_RETURN_NONE;
    }
    PyObject* list = found ? nullptr : kept(f, args);
    Py_XINCREF(list);
    for (Py_ssize_t i = 0; list && !found && i < PyList_GET_SIZE(list); i++) {
        found = Py_NewRef(PyList_GET_ITEM(list, i));
        if (!fits(reinterpret_cast<Entry*>(found), args, f->tensors, given, count, absent, false)) {
            Py_CLEAR(found);
            PyErr_Clear();
        } else {
            PyObject* before = f->slot[place];
            f->slot[place] = Py_NewRef(found);
            f->seen[place] = second;
            Py_XDECREF(before);
        }
    }
    Py_XDECREF(list);
    PyErr_Clear();
    if (!found) Py_RETURN_NONE;
    PyObject* y = run(reinterpret_cast<Entry*>(found), args, f->tensors);
    Py_DECREF(found);
    return y;
}

// ---- the two types, as Python sees them ----

int entry_init(PyObject* self, PyObject* args, PyObject* keywords) {
    Entry* e = reinterpret_cast<Entry*>(self);
    static const char* names[] = {"check", "numbers", "kernels", "absent",   "grad",    "threads", "kind",  "relu",
                                  "action", "extra",  "function", "address", "plan", "shape", "stride", "dtype", "quick", nullptr};
    PyObject *check, *numbers, *kernels, *action = Py_None, *extra = nullptr;
    PyObject *plan = Py_None, *shape = Py_None, *stride = Py_None, *dtype = Py_None, *quick = nullptr;
    Py_ssize_t function = 0, address = 0;
    if (e->check) {
        PyErr_SetString(PyExc_RuntimeError, "an Entry is made once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO!Olllll|OO!nnOOOOO", const_cast<char**>(names), &check,
                                     &PyTuple_Type, &numbers, &kernels, &e->absent, &e->grad, &e->threads, &e->kind,
                                     &e->relu, &action, &PyTuple_Type, &extra, &function, &address, &plan, &shape,
                                     &stride, &dtype, &quick))
        return -1;
    if (e->kind == CALLABLE ? !PyCallable_Check(action) || !extra : !function || !address) {
        PyErr_SetString(PyExc_ValueError, "an Entry needs a callable and its arguments, or a kernel and its plan");
        return -1;
    }
    if (extra && PyTuple_GET_SIZE(extra) > MOST_ARGUMENTS - MOST_TENSORS) {
        PyErr_SetString(PyExc_ValueError, "an Entry takes fewer arguments");
        return -1;
    }
    e->function = reinterpret_cast<void*>(function), e->address = reinterpret_cast<void*>(address);
    PyObject* from[] = {check, numbers, kernels, action, extra, plan, shape, stride, dtype, quick};
    PyObject** to[] = {&e->check, &e->numbers, &e->kernels, &e->action, &e->extra,
                       &e->plan,  &e->shape,   &e->stride,  &e->dtype,  &e->quick};
    for (int i = 0; i < 10; i++) *to[i] = Py_XNewRef(from[i]);
    return 0;
}

void entry_free(PyObject* self) {
    Entry* e = reinterpret_cast<Entry*>(self);
    PyObject* held[] = {e->check, e->numbers, e->kernels, e->action, e->extra,
                        e->plan,  e->shape,   e->stride,  e->dtype,  e->quick};
    for (PyObject* o : held) Py_XDECREF(o);
    PyTypeObject* type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

int front_init(PyObject* self, PyObject* args, PyObject*) {
    Front* f = reinterpret_cast<Front*>(self);
    if (!PyArg_ParseTuple(args, "nn", &f->tensors, &f->arguments)) return -1;
    if (f->entries || f->tensors < 1 || f->tensors > MOST_TENSORS || f->arguments < f->tensors ||
        f->arguments > MOST_ARGUMENTS) {
        PyErr_SetString(PyExc_ValueError, "a Front is made once, for 1 to 11 tensors and at most 32 arguments");
        return -1;
    }
    f->call = call_front;
    f->entries = PyDict_New();
    return f->entries ? 0 : -1;
}

PyObject* front_clear(PyObject* self, PyObject*) {
    Front* f = reinterpret_cast<Front*>(self);
    for (PyObject*& slot : f->slot) Py_CLEAR(slot);
    if (f->entries) PyDict_Clear(f->entries);
    Py_RETURN_NONE;
}

void front_free(PyObject* self) {
    Py_XDECREF(front_clear(self, nullptr));
    Py_XDECREF(reinterpret_cast<Front*>(self)->entries);
    PyTypeObject* type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyTypeObject* entry_type;

// add(entry, *arguments): keeps an entry for calls like this one.
PyObject* front_add(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    Front* f = reinterpret_cast<Front*>(self);
    if (count != f->arguments + 1 || Py_TYPE(args[0]) != entry_type ||
        PyTuple_GET_SIZE(reinterpret_cast<Entry*>(args[0])->numbers) != f->arguments - f->tensors) {
        PyErr_SetString(PyExc_TypeError, "add takes an Entry and the arguments of its call");
        return nullptr;
    }
    PyObject* key = key_of(f, args + 1);
    if (!key) return nullptr;
    PyObject* list = PyDict_GetItemWithError(f->entries, key);
    bool fresh = !list && !PyErr_Occurred();
    if (fresh) list = PyList_New(0);
    int failed = !list || PyList_Append(list, args[0]) < 0 || (fresh && PyDict_SetItem(f->entries, key, list) < 0);
    if (fresh) Py_XDECREF(list);
    Py_DECREF(key);
    if (failed) return nullptr;
    Py_RETURN_NONE;
}

PyObject* configure(PyObject*, PyObject* args, PyObject* keywords) {
    static const char* names[] = {"backend", "automatic", "forward_ad", "native", "function_mode", "dispatch_modes",
                                  "transforms", "grad_enabled", "threads", "empty", "tensor", "parameter", nullptr};
    PyObject* given[12];
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOOOOOOOOOOO", const_cast<char**>(names), given, given + 1,
                                     given + 2, given + 3, given + 4, given + 5, given + 6, given + 7, given + 8,
                                     given + 9, given + 10, given + 11))
        return nullptr;
    PyObject** to[] = {&torchs.backend,      &torchs.automatic,  &torchs.forward_ad,   &torchs.native,
                       &torchs.function_mode, &torchs.dispatch_modes, &torchs.transforms, &torchs.grad_enabled,
                       &torchs.threads,      &torchs.empty,      &torchs.tensor,       &torchs.parameter};
    for (int i = 0; i < 12; i++) {
        PyObject* before = *to[i];
        *to[i] = Py_NewRef(given[i]);
        Py_XDECREF(before);
    }
    Py_RETURN_NONE;
}

template <class F> PyCFunction method(F* function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef front_methods[] = {{"add", method(front_add), METH_FASTCALL, "add(entry, *arguments)"},
                               {"clear", front_clear, METH_NOARGS, "Forgets every entry."},
                               {}};
PyMemberDef front_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Front, call), READONLY, nullptr},
    {}};
PyType_Slot front_slots[] = {{Py_tp_init, reinterpret_cast<void*>(front_init)},
                             {Py_tp_dealloc, reinterpret_cast<void*>(front_free)},
                             {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                             {Py_tp_methods, front_methods},
                             {Py_tp_members, front_members},
                             {}};
PyType_Slot entry_slots[] = {{Py_tp_init, reinterpret_cast<void*>(entry_init)},
                             {Py_tp_dealloc, reinterpret_cast<void*>(entry_free)},
                             {}};
PyType_Spec front_spec = {"kernels.cpu._front.Front", sizeof(Front), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, front_slots};
PyType_Spec entry_spec = {"kernels.cpu._front.Entry", sizeof(Entry), 0, Py_TPFLAGS_DEFAULT, entry_slots};

PyMethodDef functions[] = {{"configure", method(configure), METH_VARARGS | METH_KEYWORDS, "Names what is torch's."}, {}};
PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_front", "Calls that were checked once.", -1, functions};

}  // namespace

PyMODINIT_FUNC PyInit__front() {
    PyObject* module = PyModule_Create(&definition);
    PyObject* front = module ? PyType_FromSpec(&front_spec) : nullptr;
    PyObject* entry = front ? PyType_FromSpec(&entry_spec) : nullptr;
    struct {
        PyObject** to;
        const char* name;
    } words[] = {{&s_is_cpu, "is_cpu"},         {&s_shape, "shape"},     {&s_data_ptr, "data_ptr"},
                 {&s_level, "_current_level"}, {&s_kernels, "KERNELS"}, {&s_relu, "relu_"}};
    bool fine = entry != nullptr;
    for (auto& word : words) fine = fine && (*word.to = PyUnicode_InternFromString(word.name));
    if (!fine || PyModule_AddObjectRef(module, "Front", front) < 0 || PyModule_AddObjectRef(module, "Entry", entry) < 0 ||
        PyModule_AddStringConstant(module, "SOURCE_ID", SOURCE_ID) < 0) {
        Py_XDECREF(entry);
        Py_XDECREF(front);
        Py_XDECREF(module);
        return nullptr;
    }
    entry_type = reinterpret_cast<PyTypeObject*>(entry);
    Py_DECREF(front);
    return module;
}
